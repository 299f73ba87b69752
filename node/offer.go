package node

import (
	"net/netip"
	"slices"

	"culvert/protocol"
	"culvert/tunnel"
)

// Priorities of UDP candidates: what the outside sees before what an interface has.
const (
	seenPriority    = 300
	publicPriority  = 200
	privatePriority = 100
)

// offerUDP is where this node's UDP port may be sent to, and what is known of its NAT, by how the homes see this node.
func (n *Node) offerUDP(m *membership) ([]protocol.Candidate, protocol.Punch) {
	var seen []netip.AddrPort
	for _, h := range m.homes.snapshot() {
		if h.seen.IsValid() {
			seen = append(seen, h.seen.AddrPort)
		}
	}
	b := n.bound()
	var own []netip.AddrPort
	if a := b.Addr(); a.IsValid() && !a.IsUnspecified() {
		own = append(own, b)
	} else {
		for _, p := range n.ownPrefixes() {
			if p.Addr().Is4() || !a.Is4() {
				own = append(own, netip.AddrPortFrom(p.Addr(), b.Port()))
			}
		}
	}
	return udpCandidates(seen, own), protocol.Punch{Wanted: len(seen) > 0, Mapping: mappingOf(seen, own)}
}

// udpCandidates lines up addresses: how others see the node, then its own, public ones first.
func udpCandidates(seen, own []netip.AddrPort) []protocol.Candidate {
	var l []protocol.Candidate
	add := func(kind protocol.CandidateKind, a netip.AddrPort, priority uint32) {
		addr := protocol.AddrOf(a)
		known := slices.ContainsFunc(l, func(c protocol.Candidate) bool { return c.Addr == addr })
		if !known && addr.Port() != 0 && !addr.Addr().IsLinkLocalUnicast() && len(l) < protocol.MaxCandidates {
			l = append(l, protocol.Candidate{Kind: kind, Protocol: protocol.UDP, Addr: addr, Priority: priority})
		}
	}
	for _, a := range seen {
		add(protocol.CandidateSeen, a, seenPriority)
	}
	for _, public := range []bool{true, false} {
		for _, a := range own {
			if tunnel.Public(a.Addr()) != public {
				continue
			}
			priority := uint32(privatePriority)
			if public {
				priority = publicPriority
			}
			add(protocol.CandidateHost, a, priority)
		}
	}
	return l
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
