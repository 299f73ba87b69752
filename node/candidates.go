package node

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/discovery/nat"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/portmap"
)

// Priorities of candidates, beside those of tunnel.Candidates: TCP at public addresses 200, at private ones 100.
const (
	seenPriority   = 300 // UDP, as super-nodes see it
	publicPriority = 250 // UDP at a public address of this machine
	mappedPriority = 150
	lanPriority    = 100 // UDP at a private address
)

const (
	// tcpFirst is how many places of a NodeInfo candidates of TCP have before those of UDP; what is left over goes to either.
	tcpFirst = 5
	lanUDP   = 3
)

// candidates are the addresses at which this node may be dialled, and sent UDP where a router has opened the port. One that
// listens on a single address offers that alone.
func (n *Node) candidates() []protocol.Candidate {
	b := n.bound()
	if _, ok := n.onlyAddress(); ok {
		return []protocol.Candidate{{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: protocol.AddrOf(b), Priority: 200}}
	}
	var own []netip.Prefix
	for _, p := range n.ownPrefixes() {
		if p.Addr().Is4() || !b.Addr().Is4() {
			own = append(own, p)
		}
	}
	return n.withMapped(tunnel.Candidates(own, b.Port()))
}

// withMapped adds the verified mappings to candidates that are sorted by priority.
func (n *Node) withMapped(l []protocol.Candidate) []protocol.Candidate {
	if n.mapper == nil {
		return l
	}
	return addMapped(l, n.mapper.Mappings())
}

func addMapped(l []protocol.Candidate, mappings []portmap.Mapping) []protocol.Candidate {
	for _, m := range mappings {
		l = append(l, protocol.Candidate{Kind: protocol.CandidateMapped, Protocol: m.Protocol,
			Addr: protocol.AddrOf(m.External), Priority: mappedPriority})
	}
	slices.SortStableFunc(l, func(a, b protocol.Candidate) int { return cmp.Compare(b.Priority, a.Priority) })
	return l[:min(len(l), protocol.MaxCandidates)]
}

// udpCandidates are where this node's own UDP socket may be written to, best first: as super-nodes see it, at public addresses
// of its own, on its LANs. Only what servers agree on is named (see nat.Agree): who is sent packets at it did not ask.
func (n *Node) udpCandidates() []protocol.Candidate {
	var l []protocol.Candidate
	add := func(kind protocol.CandidateKind, a netip.AddrPort, priority uint32) {
		addr := protocol.AddrOf(a)
		known := slices.ContainsFunc(l, func(c protocol.Candidate) bool { return c.Addr == addr })
		if addr.IsValid() && addr.Port() != 0 && !known && len(l) < protocol.MaxCandidates {
			l = append(l, protocol.Candidate{Kind: kind, Protocol: protocol.UDP, Addr: addr, Priority: priority})
		}
	}
	port := n.bound().Port()
	own := n.ownAddresses()
	for _, a := range own {
		if n.isPublic(a) {
			add(protocol.CandidateHost, netip.AddrPortFrom(a, port), publicPriority)
		}
	}
	r := n.natReport()
	for i, a := range n.natSeen(&r) {
		f := []*nat.Family{&r.V4, &r.V6}[i]
		if f.Last.IsValid() && f.Last.Addr() == a.Addr() {
			a = f.Last
		}
		if a.IsValid() && n.isPublic(a.Addr()) {
			add(protocol.CandidateSeen, a, seenPriority)
		}
	}
	lan := 0
	for _, a := range own {
		if !n.isPublic(a) && !a.IsLinkLocalUnicast() && lan < lanUDP {
			lan++
			add(protocol.CandidateHost, netip.AddrPortFrom(a, port), lanPriority)
		}
	}
	slices.SortStableFunc(l, func(a, b protocol.Candidate) int { return cmp.Compare(b.Priority, a.Priority) })
	return l
}

// announcedCandidates are those of a NodeInfo: TCP ones first, and UDP ones in what room there is.
func (n *Node) announcedCandidates() []protocol.Candidate {
	tcp, udp := n.candidates(), n.udpCandidates()
	keep := max(tcpFirst, protocol.MaxCandidates-len(udp))
	l := append(slices.Clone(tcp[:min(len(tcp), keep)]), udp...)
	return l[:min(len(l), protocol.MaxCandidates)]
}

// candidatesChanged has the NodeInfo announced anew where its UDP candidates are no longer the same.
func (n *Node) candidatesChanged() {
	l := n.udpCandidates()
	n.nat.mu.Lock()
	same := slices.Equal(l, n.nat.announced)
	n.nat.announced = l
	n.nat.mu.Unlock()
	if !same {
		n.touchAll()
	}
}
