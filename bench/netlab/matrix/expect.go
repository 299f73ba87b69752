package matrix

import "culvert/tunnel"

// Pair is an ordered pair of kinds.
type Pair struct {
	User   Kind `json:"user"`
	Device Kind `json:"device"`
}

// Expect is the best route that a tunnel of the pair can take.
func (p Pair) Expect() tunnel.Route {
	a, b := p.User.Traits(), p.Device.Traits()
	switch {
	case reaches(a, b) || reaches(b, a):
		return tunnel.Direct
	case a.Maps && b.V4 && b.AnyPort || b.Maps && a.V4 && a.AnyPort:
		return tunnel.Mapped
	case punches(a, b):
		return tunnel.Punched
	}
	return tunnel.Relayed
}

// reaches tells whether from may dial the open ports of to.
func reaches(from, to Traits) bool {
	return to.Open && from.AnyPort && (from.V4 && to.V4 || from.V6 && to.V6)
}

func punches(a, b Traits) bool {
	switch {
	case !a.UDP || !b.UDP:
		return false
	case a.V6 && b.V6:
		return true
	case !a.V4 || !b.V4:
		return false
	}
	return a.Mapping == Independent || b.Mapping == Independent
}

// hard tells whether the pair, if it is punched, is by foreseeing or meeting
// one side's ports; which says how that side chooses them.
func (p Pair) hard() (Mapping, bool) {
	a, b := p.User.Traits(), p.Device.Traits()
	if p.Expect() != tunnel.Punched || a.V6 && b.V6 {
		return Independent, false
	}
	m := max(a.Mapping, b.Mapping)
	return m, m != Independent
}

// Batches pairs every user's site with a device's site, so that no site is in
// two pairs of a batch, and no pair in two batches.
func Batches(kinds []Kind) [][]Pair {
	out := make([][]Pair, len(kinds))
	for shift := range out {
		for i, k := range kinds {
			out[shift] = append(out[shift], Pair{User: k, Device: kinds[(i+shift)%len(kinds)]})
		}
	}
	return out
}

// Sample is one batch of pairs that tell the most.
func Sample() []Pair {
	return []Pair{
		{Open, Restricted}, {FullCone, NATPMP}, {Restricted, UPnP2}, {Carrier, FullCone}, {PortRestricted, Symmetric},
		{DualStack, IPv6Only}, {Sequential, PortRestricted}, {Symmetric, Sequential}, {HTTPSOnly, PCP}, {ProxyOnly, Open},
	}
}
