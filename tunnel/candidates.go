package tunnel

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/protocol"
)

// Candidates are the TCP addresses at which a node with these interface addresses may be dialled: public ones first, for
// the direct route, then private ones, for nodes at the same location.
func Candidates(own []netip.Prefix, port uint16) []protocol.Candidate {
	var l []protocol.Candidate
	for _, p := range own {
		addr := protocol.AddrOf(netip.AddrPortFrom(p.Addr(), port))
		known := slices.ContainsFunc(l, func(c protocol.Candidate) bool { return c.Addr == addr })
		if known || !dialable(addr.Addr()) {
			continue
		}
		priority := uint32(100)
		if Public(p.Addr()) {
			priority = 200
		}
		l = append(l, protocol.Candidate{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: addr, Priority: priority})
	}
	slices.SortStableFunc(l, func(a, b protocol.Candidate) int { return cmp.Compare(b.Priority, a.Priority) })
	return l[:min(len(l), protocol.MaxCandidates)]
}

// Public reports whether addr may be reached from everywhere.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) // carrier-grade NAT
	return dialable(addr) && !addr.IsPrivate() && !shared.Contains(addr)
}

// dialable reports whether a node may be dialled there at all.
func dialable(addr netip.Addr) bool { return addr.IsValid() && !special(addr.Unmap()) }
