package discovery

import (
	"cmp"
	"net/netip"
	"slices"
)

// candidates lists where the table has mac, on-link addresses only, best first: confirmed lately, then the preferred address,
// then IPv4, then the lowest, so that the same table always gives the same answer.
func candidates(ifs []Interface, entries []entry, mac MAC, prefer netip.Addr) []entry {
	var out []entry
	for _, e := range entries {
		if on, ok := owner(ifs, e.Addr); ok && e.MAC == mac && on.Index == e.Index {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b entry) int {
		return cmp.Or(order(a.Fresh, b.Fresh), order(a.Addr == prefer, b.Addr == prefer), order(a.Addr.Is4(), b.Addr.Is4()),
			a.Addr.Compare(b.Addr))
	})
	return out
}

// order puts true first.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// guesses lists where a device with this MAC would be if it made its IPv6 addresses from it, as most printers and cameras do.
func guesses(ifs []Interface, mac MAC) []target {
	var out []target
	for _, i := range ifs {
		for _, p := range i.Prefixes {
			if a, ok := mac.eui64(p.Masked()); ok && i.reaches(a) {
				out = append(out, target{i.Index, a})
			}
		}
	}
	return out
}

// searchable drops the interfaces that cannot have devices and puts those with a gateway first: the rest are mostly bridges of
// virtual machines.
func searchable(ifs []Interface, routes []nextHop) []Interface {
	out := slices.DeleteFunc(slices.Clone(ifs), func(i Interface) bool { return i.Layer3 })
	has := func(i Interface) bool {
		return slices.ContainsFunc(routes, func(r nextHop) bool { return r.Index == i.Index })
	}
	slices.SortStableFunc(out, func(a, b Interface) int { return order(has(a), has(b)) })
	return out
}
