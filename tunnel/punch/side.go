package punch

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/protocol"
)

// Side is what one end tells the other about where its main socket may be reached.
type Side struct {
	Candidates []protocol.Candidate // of any protocol; UDP ones count
	Punch      protocol.Punch
}

// reach says which addresses this side may send to.
type reach struct {
	local    bool // private addresses
	loopback bool // for tests and demonstrations on one machine
}

var (
	shared    = netip.MustParsePrefix("100.64.0.0/10")
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
	forbidden = netip.MustParsePrefix("240.0.0.0/4")
)

// private reports whether addr means something else at another place.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || shared.Contains(addr) || addr.IsLoopback()
}

// unicast reports whether a packet can have come from addr, or may go there.
func (r reach) unicast(a netip.AddrPort) bool {
	addr := a.Addr()
	switch {
	case a.Port() == 0, !addr.IsValid(), addr.Is4In6(), addr.Zone() != "", addr.IsUnspecified(), addr.IsMulticast(),
		addr.IsLinkLocalUnicast(), thisNet.Contains(addr), forbidden.Contains(addr):
		return false
	}
	return r.loopback || !addr.IsLoopback()
}

// may reports whether a candidate is sent to.
func (r reach) may(a netip.AddrPort) bool {
	return r.unicast(a) && (r.local || !private(a.Addr()) || r.loopback && a.Addr().IsLoopback())
}

// targets are the addresses of a side that may be sent to, best first.
func (r reach) targets(s Side) (l []netip.AddrPort) {
	for _, c := range s.sorted() {
		if a := c.Addr.AddrPort; r.may(a) && !slices.Contains(l, a) && len(l) < mostTargets {
			l = append(l, a)
		}
	}
	return l
}

// outside is the IPv4 address that the side's NAT shows for its main socket; invalid where none is known.
func (r reach) outside(s Side) netip.AddrPort {
	for _, kind := range []protocol.CandidateKind{protocol.CandidateSeen, protocol.CandidateMapped, protocol.CandidateHost} {
		for _, c := range s.sorted() {
			a := c.Addr.AddrPort
			if c.Kind == kind && a.Addr().Is4() && r.may(a) && (!private(a.Addr()) || r.loopback) {
				return a
			}
		}
	}
	return netip.AddrPort{}
}

// sorted are the side's UDP candidates, highest priority first.
func (s Side) sorted() []protocol.Candidate {
	l := slices.DeleteFunc(slices.Clone(s.Candidates), func(c protocol.Candidate) bool { return c.Protocol != protocol.UDP })
	slices.SortStableFunc(l, func(a, b protocol.Candidate) int { return cmp.Compare(b.Priority, a.Priority) })
	return l
}
