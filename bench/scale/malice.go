package main

import (
	"math/rand/v2"
	"net/netip"

	"culvert/dht"
	"culvert/protocol"
)

// malice is the chance to meet liars, for one share of them among the super-nodes.
type malice struct {
	Attacker string    `json:"attacker"` // who they are
	Share    float64   `json:"share"`    // of all super-nodes
	Worst    float64   `json:"worst"`    // their greatest share of a range's members
	Majority float64   `json:"majority"` // share of the nodes of whose range they have more than half
	Any      []float64 `json:"any"`      // chance that one of the first K asked is malicious, for K = 1, 2, …
	All      []float64 `json:"all"`      // chance that all of the first K asked are
	// With the whole lookup, K = 2 and more when it has doubts, for each way of lying.
	Lies []lie `json:"lies"`
}

type lie struct {
	Manner string `json:"manner"`
	readings
}

// mostK is up to what K is drawn.
const mostK = 6

// anyone is every super-node with the same chance, such as machines of many customers that somebody broke into.
func anyone(v *view, share float64, r *rand.Rand) map[protocol.ID]bool {
	bad := make(map[protocol.ID]bool)
	for _, m := range v.members {
		if r.Float64() < share {
			bad[m.Peer.ID] = true
		}
	}
	return bad
}

// infiltrate adds one customer who volunteers so many machines that they are this share of all, in as many networks as he likes.
func (p *population) infiltrate(share float64, r *rand.Rand) protocol.Domain {
	on := float64(p.nodes) / float64(p.a.NodesPerVolunteer)
	d := protocol.Domain(r.Uint32() | 1)
	for range int(on * share / (1 - share)) {
		ip := netip.AddrFrom4([4]byte{byte(11 + r.IntN(180)), byte(r.Uint32()), byte(r.Uint32()), 1})
		p.volunteers = append(p.volunteers, volunteer{
			id: protocol.NewID(d, randomHash(r)), addr: netip.AddrPortFrom(ip, 7700), stays: true,
		})
	}
	return d
}

// of are the members of one domain.
func (v *view) of(d protocol.Domain) map[protocol.ID]bool {
	bad := make(map[protocol.ID]bool)
	for _, m := range v.members {
		if m.Domain == d {
			bad[m.Peer.ID] = true
		}
	}
	return bad
}

// drawn counts over users who is among the first K that the real order names. Users have met nobody before, so that the
// nearest is anybody's guess.
func (l *lab) drawn(p *population, bad map[protocol.ID]bool, users int) (some, all []float64) {
	some, all = make([]float64, mostK), make([]float64, mostK)
	for range users {
		c := p.customers[p.someone(l.rand)]
		members := l.v.serving(protocol.NewID(c.domain, randomHash(l.rand)))
		order := dht.NewScores().Order(members, c.domain, l.start, l.rand)
		met := 0
		for k := range mostK {
			if k < len(order) && bad[order[k].Peer.ID] {
				met++
			}
			some[k] += when(met > 0) / float64(users)
			all[k] += when(met > 0 && met == min(k+1, len(order))) / float64(users)
		}
	}
	return some, all
}

// hold is how much of the ranges is in bad hands.
func (m *malice) hold(p *population, v *view, bad map[protocol.ID]bool) {
	for _, s := range v.segments {
		n := 0
		for _, mem := range s.members {
			n += int(when(bad[mem.Peer.ID]))
		}
		if n > 0 {
			m.Worst = max(m.Worst, float64(n)/float64(len(s.members)))
		}
		if 2*n > len(s.members) {
			m.Majority += p.within(s.from, s.to) / float64(p.nodes)
		}
	}
}

// meet runs sampled users against these liars.
func meet(a assumptions, p *population, v *view, bad map[protocol.ID]bool, m malice, users int, r *rand.Rand) (malice, error) {
	l, err := newLab(a, v, r)
	if err != nil {
		return m, err
	}
	m.hold(p, v, bad)
	m.Any, m.All = l.drawn(p, bad, 50*users)
	for _, way := range []struct {
		how  manner
		name string
	}{{silent, "silent"}, {stale, "stale"}, {denies, "denies"}} {
		if l, err = newLab(a, v, r); err != nil {
			return m, err
		}
		for id := range bad {
			l.manners[id] = way.how
		}
		x, err := l.sample(p, users, 10)
		if err != nil {
			return m, err
		}
		m.Lies = append(m.Lies, lie{way.name, x})
	}
	return m, nil
}
