package discovery

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Gateway is the next hop of a default route.
type Gateway struct {
	Interface string
	Index     int
	Addr      netip.Addr   // without zone: a link-local one is on interface Index
	Prefix    netip.Prefix // the on-link prefix towards it, see the package's words on location IDs
	Local     netip.Addr   // this machine's address there
	MAC       MAC          // zero when unknown
	Layer3    bool         // the interface has no link-layer addresses, so there is no MAC to know
	Default   bool         // what this machine sends to the internet goes this way
}

// Gateways reads the gateway of every active interface, IPv4 and IPv6, the default route's first, and resolves their MACs; where
// one does not answer within about a second, or ctx ends first, its MAC stays zero. A machine without any gives none and no error.
func Gateways(ctx context.Context) ([]Gateway, error) { return gatewaysOf(ctx, kernel{}) }

func gatewaysOf(ctx context.Context, h host) ([]Gateway, error) {
	_, list, err := readGateways(ctx, h)
	return list, err
}

// readGateways gives the interfaces too, for resolve.
func readGateways(ctx context.Context, h host) ([]Interface, []Gateway, error) {
	ifs, err := h.interfaces()
	if err != nil {
		return nil, nil, err
	}
	routes, err := h.routes()
	if err != nil {
		return nil, nil, err
	}
	list := arrange(ifs, routes, preferences(h, routes))
	resolve(ctx, h, ifs, list)
	return ifs, list, nil
}

// resolve finds the MACs of gateways.
func resolve(ctx context.Context, h host, ifs []Interface, list []Gateway) {
	var wg sync.WaitGroup
	for k := range list {
		g := &list[k]
		if on := slices.IndexFunc(ifs, func(i Interface) bool { return i.Index == g.Index }); !g.Layer3 && on >= 0 {
			wg.Go(func() { g.MAC = gatewayMAC(ctx, h, ifs[on], g.Addr) })
		}
	}
	wg.Wait()
}

// hop is a gateway on an interface, for a family.
type hop struct {
	Index int
	Via   netip.Addr
	V6    bool
}

// preferences names the hops that carry this machine's own internet traffic: the system's word, else the lowest metric.
func preferences(h host, routes []nextHop) map[hop]bool {
	out := make(map[hop]bool, 2)
	for _, v6 := range []bool{false, true} {
		var best *nextHop
		for k := range routes {
			if r := &routes[k]; r.V6 == v6 && (best == nil || r.Metric < best.Metric) {
				best = r
			}
		}
		if best == nil {
			continue
		}
		if index, via, ok := h.preferred(v6); ok {
			out[hop{index, via.WithZone(""), v6}] = true
		} else {
			out[hop{best.Index, best.Via, v6}] = true
		}
	}
	return out
}

// arrange joins routes to interfaces: interfaces in the order default IPv4, default IPv6, lowest metric, index; within one IPv4
// first, then by metric and address, never by what is preferred just now: two machines at a place must choose the same gateway.
func arrange(ifs []Interface, routes []nextHop, preferred map[hop]bool) []Gateway {
	type ranked struct {
		Gateway
		v6           bool
		class        int
		metric, best uint32
	}
	class, best := make(map[int]int), make(map[int]uint32)
	kept := make(map[hop]nextHop)
	for _, r := range routes {
		k := hop{r.Index, r.Via, r.V6}
		if old, ok := kept[k]; !ok || r.Metric < old.Metric {
			kept[k] = r
		}
	}
	for k, r := range kept {
		c := 2
		if preferred[k] {
			c = 0
			if k.V6 {
				c = 1
			}
		}
		if old, ok := class[r.Index]; !ok || c < old {
			class[r.Index] = c
		}
		if old, ok := best[r.Index]; !ok || r.Metric < old {
			best[r.Index] = r.Metric
		}
	}
	var list []ranked
	for k, r := range kept {
		on := slices.IndexFunc(ifs, func(i Interface) bool { return i.Index == r.Index })
		if on < 0 || !r.Via.IsValid() || r.Via.IsUnspecified() {
			continue
		}
		prefix, local := towards(ifs[on], r)
		list = append(list, ranked{Gateway{Interface: ifs[on].Name, Index: r.Index, Addr: r.Via, Prefix: prefix, Local: local,
			Layer3: ifs[on].Layer3, Default: preferred[k]}, r.V6, class[r.Index], r.Metric, best[r.Index]})
	}
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.best, b.best), cmp.Compare(a.Index, b.Index),
			cmp.Compare(rank(a.v6), rank(b.v6)), cmp.Compare(a.metric, b.metric), a.Addr.Compare(b.Addr))
	})
	out := make([]Gateway, 0, len(list))
	for _, r := range list {
		out = append(out, r.Gateway)
	}
	return out
}

func rank(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// towards chooses the prefix that names the place, and our address there.
func towards(i Interface, r nextHop) (netip.Prefix, netip.Addr) {
	local := r.Source
	if r.Via.Is6() && r.Via.IsLinkLocalUnicast() {
		for _, p := range i.Prefixes {
			if p.Addr().Is6() && p.Addr().IsPrivate() && p.Bits() < 128 {
				return p.Masked(), p.Addr()
			}
		}
	}
	if p, ok := i.onLink(r.Via); ok {
		if !local.IsValid() || !p.Contains(local) {
			local = p.Addr()
		}
		return p.Masked(), local
	}
	for _, p := range i.Prefixes {
		if !local.IsValid() && p.Addr().Is6() == r.Via.Is6() {
			local = p.Addr()
		}
	}
	if r.Via.Is6() && r.Via.IsLinkLocalUnicast() {
		return netip.PrefixFrom(r.Via, 64).Masked(), local
	}
	return netip.PrefixFrom(r.Via, r.Via.BitLen()), local
}

// gatewayMAC reads the table first; a silent failure of any means leaves the others. Where answers can be heard, one is
// awaited even if the table knows, because a table may still hold the router of before; but not for long.
func gatewayMAC(ctx context.Context, h host, on Interface, gw netip.Addr) MAC {
	known, _ := lookup(h, on.Index, gw)
	p, err := h.prober(ctx, on)
	if err != nil {
		return known
	}
	defer p.Close()
	if !known.IsZero() && !(p.hears() && gw.Is4()) {
		_ = p.touch(gw) // the kernel checks a stale entry when it is used
		return known
	}
	pause := 5 * time.Millisecond
	for try := 0; ctx.Err() == nil && try < 9; try++ { // 5 ms doubling to 640 ms, 1.3 s in all
		if try%3 == 0 {
			_ = p.ask(gw)
		}
		if !sleep(ctx, pause) {
			break
		}
		pause = min(2*pause, 320*time.Millisecond)
		for _, s := range p.heard() {
			if s.Addr == gw {
				return s.MAC
			}
		}
		if known, _ = lookup(h, on.Index, gw); !known.IsZero() && (!p.hears() || try >= 5) {
			break
		}
	}
	return known
}

// lookup reads one line of the neighbour table.
func lookup(h host, index int, addr netip.Addr) (MAC, bool) {
	entries, err := h.neighbours()
	if err != nil {
		return MAC{}, false
	}
	for _, e := range entries {
		if e.Index == index && e.Addr == addr {
			return e.MAC, e.Fresh
		}
	}
	return MAC{}, false
}

// sleep waits d, or less when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
