package node

import (
	"context"
	"net/netip"
	"slices"

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
	return protocol.Candidate{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: protocol.AddrOf(a), Priority: 300}
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
