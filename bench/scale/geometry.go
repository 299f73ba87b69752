package main

import (
	"math"

	"culvert/partition"
	"culvert/protocol"
)

// geometry is how domains lie in ranges, by nodes: what a user meets.
type geometry struct {
	Members     float64      `json:"members"`      // of the range of a node's key
	KeyRanges   float64      `json:"key_ranges"`   // ranges that hold a NodeInfo: its own key's, and a location's
	UserRanges  float64      `json:"user_ranges"`  // ranges of a user's domain
	UserMembers float64      `json:"user_members"` // and the super-nodes of those
	OwnDomain   float64      `json:"own_domain"`   // share of users with a super-node of their own domain in their range
	Records     distribution `json:"records_a_member"`
	Queries     distribution `json:"queries_s_a_member"`  // lookups and announcements asked of one super-node
	MostOwners  int          `json:"ranges_over_a_third"` // ranges of R or more members of which one domain has more than a third
	MostNets    int          `json:"ranges_over_a_third_16"`
}

// survey measures a map against a population. asks is the members asked a lookup.
func survey(p *population, v *view, asks float64) (g geometry) {
	a := p.a
	records := make(map[protocol.ID]float64, len(v.members))
	queries := make(map[protocol.ID]float64, len(v.members))
	total := float64(p.nodes)
	announced := min(1, 5/float64(a.NodesPerPlace)) // keepers and who stand by are announced at the place too
	for _, c := range p.customers {
		from, to := uint64(c.domain)<<32, uint64(c.domain)<<32|math.MaxUint32
		first, last := v.at(from), v.at(to)
		same := 0.0
		for i := first; i <= last; i++ {
			seg := &v.segments[i]
			n := c.nodes * width(max(seg.from, from), min(seg.to, to)) / (1 << 32)
			same += (n / c.nodes) * (n / c.nodes)
			g.Members += n / total * float64(len(seg.members))
			if len(seg.members) > 0 {
				perNode := asks*a.Lookups/86400 + codeWriteQuorum/codeAnnounce.Seconds()*(1+announced*(1-n/c.nodes))
				if share(seg.members, c.domain, n*perNode, queries) {
					g.OwnDomain += n / total
				}
			}
		}
		g.KeyRanges += c.nodes / total * (1 + announced*(1-same))
		g.UserRanges += c.nodes / total * float64(last-first+1)
		members := make(map[protocol.ID]bool)
		for i := first; i <= last; i++ {
			for _, m := range v.segments[i].members {
				members[m.Peer.ID] = true
			}
		}
		g.UserMembers += c.nodes / total * float64(len(members))
	}
	var rs, qs []float64
	for _, m := range v.members {
		records[m.Peer.ID] = p.within(m.Range.From, m.Range.To) * a.recordsPerNode()
		rs, qs = append(rs, records[m.Peer.ID]), append(qs, queries[m.Peer.ID])
	}
	g.Records, g.Queries = distribute(rs), distribute(qs)
	for i := range v.segments {
		owner, net := crowd(v.segments[i].members)
		g.MostOwners += int(when(owner))
		g.MostNets += int(when(net))
	}
	return g
}

func width(from, to uint64) float64 {
	if from > to {
		return 0
	}
	return float64(to-from) + 1
}

// share gives the queries of n nodes of a domain to the members: the own domain's is asked first, the second is anybody. Where
// none is of the domain, the nearest comes first, which is another one for each user.
func share(members []partition.Member, d protocol.Domain, queries float64, to map[protocol.ID]float64) (own bool) {
	var mine []protocol.ID
	for _, m := range members {
		if m.Domain == d {
			mine = append(mine, m.Peer.ID)
		}
	}
	if len(mine) == 0 || len(members) == 1 {
		for _, m := range members {
			to[m.Peer.ID] += queries / float64(len(members))
		}
		return len(mine) > 0
	}
	const k = codeReadQuorum
	for _, id := range mine {
		to[id] += queries / k / float64(len(mine))
	}
	for _, m := range members {
		first := 0.0 // how often it is the first itself, and so not the second
		if m.Domain == d {
			first = 1 / float64(len(mine))
		}
		to[m.Peer.ID] += queries * (k - 1) / k * (1 - first) / float64(len(members)-1)
	}
	return true
}

// crowd reports whether one domain, or one /16, has more than a third of a range's members though there are R.
func crowd(members []partition.Member) (owner, net bool) {
	if len(members) < partition.Replicas {
		return false, false
	}
	domains, nets := make(map[protocol.Domain]int), make(map[[2]byte]int)
	for _, m := range members {
		domains[m.Domain]++
		b := m.Peer.Addr.Addr().As4()
		nets[[2]byte{b[0], b[1]}]++
	}
	for _, n := range domains {
		owner = owner || 3*n > len(members)
	}
	for _, n := range nets {
		net = net || 3*n > len(members)
	}
	return owner, net
}
