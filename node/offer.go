package node

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
)

// offerUDP is this node's part of a meeting by UDP: what the router has opened, where its socket is seen from outside, its own
// addresses; and what is known of its NAT, at first by its homes alone. Where ports follow each other it asks for the last one.
// An outside host on which witnesses do not agree is not offered: who is there would be sent packets on a liar's word.
func (n *Node) offerUDP(ctx context.Context, m *membership) ([]protocol.Candidate, protocol.Punch) {
	l, hint := n.udpCandidates(), n.natHint()
	var seen, own []netip.AddrPort
	for _, h := range m.homes.snapshot() {
		if h.seen.IsValid() {
			seen = append(seen, h.seen.AddrPort)
		}
	}
	for _, a := range n.ownAddresses() {
		own = append(own, netip.AddrPortFrom(a, n.bound().Port()))
	}
	if hint.Mapping == protocol.MappingUnknown {
		hint.Mapping = mappingOf(seen, own)
	}
	if hint.Mapping == protocol.MappingSequential {
		if a, ok := n.nextMapping(ctx); ok {
			l = slices.DeleteFunc(l, func(c protocol.Candidate) bool { return c.Kind == protocol.CandidateSeen && c.Addr.Addr().Is4() })
			l = append([]protocol.Candidate{seenCandidate(a)}, l...)
		}
	}
	for _, c := range n.withMapped(nil) {
		if c.Protocol == protocol.UDP {
			l = append([]protocol.Candidate{c}, l...)
		}
	}
	return l[:min(len(l), protocol.MaxCandidates)], hint
}

func seenCandidate(a netip.AddrPort) protocol.Candidate {
	return protocol.Candidate{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: protocol.AddrOf(a), Priority: seenPriority}
}

// mappingOf is what the NAT does with the socket's port, as far as the addresses that two others saw tell.
func mappingOf(seen, own []netip.AddrPort) protocol.Mapping {
	if len(seen) == 0 {
		return protocol.MappingUnknown
	}
	for _, a := range seen[1:] {
		if a.Addr().Is4() == seen[0].Addr().Is4() && a != seen[0] {
			return protocol.MappingRandom
		}
	}
	if len(seen) > 1 || slices.Contains(own, seen[0]) {
		return protocol.MappingIndependent
	}
	return protocol.MappingUnknown // one witness tells nothing
}

// natHint is what to tell the other side of a meeting by UDP about the NAT before this node. Wanted is false where UDP does not
// get out.
func (n *Node) natHint() protocol.Punch {
	r := n.natReport()
	f := r.V4
	if !f.Works && r.V6.Works {
		f = r.V6
	}
	if r.UDP == nat.No || r.UDP == nat.Unknown && len(n.natVotes()) == 0 {
		return protocol.Punch{}
	}
	return protocol.Punch{Wanted: true, Mapping: f.Mapping, Step: f.Step}
}

// nextMapping is the outside address that the NAT gives a flow from a fresh socket now: where it counts, the next flow's port
// is a step further. It takes a round trip to one super-node; false where none answers, or it names another host than all.
func (n *Node) nextMapping(ctx context.Context) (netip.AddrPort, bool) {
	r := n.natReport()
	_, servers, _ := n.natServers()
	i := slices.IndexFunc(servers, func(s nat.Server) bool { return s.V4.IsValid() })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	c, err := n.freshUDP(false)
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var id nat.Transaction
	if _, err := rand.Read(id[:]); err != nil {
		return netip.AddrPort{}, false
	}
	var buf [readBuffer]byte
	for range 3 {
		if c.SetReadDeadline(time.Now().Add(250*time.Millisecond)) != nil || ctx.Err() != nil {
			break
		}
		if _, err := c.WriteToUDPAddrPort(nat.Request(id), servers[i].V4); err != nil {
			break
		}
		for {
			k, from, err := c.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				break
			}
			a, err := nat.ParseResponse(buf[:k])
			if err == nil && a.ID == id && protocol.AddrOf(from) == protocol.AddrOf(servers[i].V4) {
				return a.Mapped, n.natSeen(&r)[0].Addr() == a.Mapped.Addr()
			}
		}
	}
	return netip.AddrPort{}, false
}
