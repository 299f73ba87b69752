package portmap

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/protocol"
)

// first is what a grant is proved by.
func (g grant) first() netip.AddrPort { return netip.AddrPortFrom(g.external, firstOf(g.tcp, g.udp)) }

// mappings are what a way has opened, TCP first.
func (m *machine) mappings(w *way) (l []Mapping) {
	add := func(t protocol.Transport, outside uint16) {
		if outside != 0 {
			l = append(l, Mapping{Protocol: t, External: netip.AddrPortFrom(w.grant.external, outside),
				Internal: netip.AddrPortFrom(w.site.gw.Local, m.port), By: w.grant.by, Expires: w.expires})
		}
	}
	add(protocol.TCP, w.grant.tcp)
	add(protocol.UDP, w.grant.udp)
	return l
}

// proved are the mappings through which somebody has come.
func (m *machine) proved() (l []Mapping) {
	for _, s := range m.sites {
		if s.serving != nil && s.proof.good {
			l = append(l, m.mappings(s.serving)...)
		}
	}
	return l
}

// statuses are those of all ways, in the order of the gateways.
func (m *machine) statuses() (l []Status) {
	for _, s := range m.sites {
		for _, w := range s.ways {
			l = append(l, w.status)
		}
	}
	slices.SortStableFunc(l, func(a, b Status) int { return cmp.Compare(a.State.rank(), b.State.rank()) })
	return l
}

// rank has what serves stand first.
func (s State) rank() int {
	return slices.Index([]State{Serving, Open, Unreached, Available, Asking, Unusable, Refused, Absent}, s)
}
