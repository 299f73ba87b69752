package discovery

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxNeighbours bounds what is kept of a table; the kernel's own default limit is 1,024 entries a family.
const maxNeighbours = 1 << 16

func (kernel) routes() ([]nextHop, error) {
	var out []nextHop
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		start := len(out)
		err := dump(unix.RTM_GETROUTE, family, unix.SizeofRtMsg, func() { out = out[:start] }, func(kind uint16, body []byte) error {
			if kind != unix.RTM_NEWROUTE {
				return nil
			}
			var err error
			out, err = appendRoutes(out, body)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
	}
	return out, nil
}

func (kernel) neighbours() ([]entry, error) {
	var out []entry
	err := dump(unix.RTM_GETNEIGH, unix.AF_UNSPEC, unix.SizeofNdMsg, func() { out = out[:0] }, func(kind uint16, body []byte) error {
		if kind != unix.RTM_NEWNEIGH || len(out) >= maxNeighbours {
			return nil
		}
		e, ok, err := parseNeighbour(body)
		if ok {
			out = append(out, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read neighbours: %w", err)
	}
	return out, nil
}

// appendRoutes adds the gateways of one RTM_NEWROUTE, if it is a live default route of any table.
func appendRoutes(out []nextHop, b []byte) ([]nextHop, error) {
	if len(b) < unix.SizeofRtMsg {
		return out, fmt.Errorf("%w: route of %d bytes", errNetlink, len(b))
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags u32
	family, bits, sourceBits, table, kind := b[0], int(b[1]), b[2], b[4], b[7]
	flags := binary.NativeEndian.Uint32(b[8:])
	if (family != unix.AF_INET && family != unix.AF_INET6) || sourceBits != 0 || table == unix.RT_TABLE_LOCAL ||
		kind != unix.RTN_UNICAST || flags&(unix.RTM_F_CLONED|unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
		return out, nil
	}
	r := nextHop{V6: family == unix.AF_INET6}
	dst := netip.IPv4Unspecified()
	if r.V6 {
		dst = netip.IPv6Unspecified()
	}
	var more []nextHop
	err := attributes(b[unix.SizeofRtMsg:], func(kind uint16, v []byte) error {
		var err error
		switch kind {
		case unix.RTA_DST:
			dst, err = address(family, v)
		case unix.RTA_PREFSRC:
			r.Source, err = address(family, v)
		case unix.RTA_PRIORITY:
			r.Metric, err = number(v)
		case unix.RTA_OIF:
			r.Index, err = index(v)
		case unix.RTA_GATEWAY:
			r.Via, err = address(family, v)
		case unix.RTA_VIA:
			r.Via, err = via(v)
		case unix.RTA_MULTIPATH:
			more, err = nexthops(family, v)
		}
		return err
	})
	if err != nil {
		return out, err
	}
	p := netip.PrefixFrom(dst, bits)
	if !p.IsValid() {
		return out, fmt.Errorf("%w: prefix length %d", errNetlink, bits)
	}
	if !defaultLike(p) {
		return out, nil
	}
	for _, n := range append(more, nextHop{Index: r.Index, Via: r.Via}) {
		if n.Index > 0 && n.Via.IsValid() {
			out = append(out, nextHop{Index: n.Index, Via: n.Via, V6: r.V6, Metric: r.Metric, Source: r.Source})
		}
	}
	return out, nil
}

// nexthops reads the live next hops of a route with several: struct rtnexthop {len u16, flags u8, hops u8, ifindex i32} ‖ attributes.
func nexthops(family uint8, b []byte) ([]nextHop, error) {
	var out []nextHop
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, fmt.Errorf("%w: next hop cut off", errNetlink)
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return nil, fmt.Errorf("%w: next hop length %d of %d", errNetlink, n, len(b))
		}
		var r nextHop
		var err error
		if r.Index, err = index(b[4:8]); err != nil {
			return nil, err
		}
		err = attributes(b[unix.SizeofRtNexthop:n], func(kind uint16, v []byte) error {
			var err error
			switch kind {
			case unix.RTA_GATEWAY:
				r.Via, err = address(family, v)
			case unix.RTA_VIA:
				r.Via, err = via(v)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if b[2]&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			out = append(out, r)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return out, nil
}

// parseNeighbour reads one RTM_NEWNEIGH: ok if it is a device's resolved address.
func parseNeighbour(b []byte) (e entry, ok bool, err error) {
	if len(b) < unix.SizeofNdMsg {
		return entry{}, false, fmt.Errorf("%w: neighbour of %d bytes", errNetlink, len(b))
	}
	// struct ndmsg: family u8, pad 3, ifindex i32, state u16, flags u8, type u8
	family, state, flags := b[0], binary.NativeEndian.Uint16(b[8:]), b[10]
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return entry{}, false, nil // AF_BRIDGE: forwarding entries
	}
	if e.Index, err = index(b[4:8]); err != nil {
		return entry{}, false, err
	}
	err = attributes(b[unix.SizeofNdMsg:], func(kind uint16, v []byte) error {
		var err error
		switch kind {
		case unix.NDA_DST:
			e.Addr, err = address(family, v)
		case unix.NDA_LLADDR:
			e.MAC = macOf(v)
		}
		return err
	})
	const fresh = unix.NUD_REACHABLE | unix.NUD_PERMANENT
	const resolved = fresh | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	e.Fresh = state&fresh != 0
	ok = err == nil && state&resolved != 0 && flags&unix.NTF_PROXY == 0 && e.Addr.IsValid() && e.MAC.IsUnicast()
	return e, ok, err
}

func address(family uint8, v []byte) (netip.Addr, error) {
	a, ok := netip.AddrFromSlice(v)
	if !ok || a.Is4() != (family == unix.AF_INET) {
		return netip.Addr{}, fmt.Errorf("%w: address of %d bytes", errNetlink, len(v))
	}
	return a, nil
}

// via reads an RTA_VIA: family u16 ‖ address.
func via(v []byte) (netip.Addr, error) {
	if len(v) < 2 {
		return netip.Addr{}, fmt.Errorf("%w: via of %d bytes", errNetlink, len(v))
	}
	return address(uint8(min(binary.NativeEndian.Uint16(v), 0xff)), v[2:])
}

func number(v []byte) (uint32, error) {
	if len(v) != 4 {
		return 0, fmt.Errorf("%w: number of %d bytes", errNetlink, len(v))
	}
	return binary.NativeEndian.Uint32(v), nil
}

func index(v []byte) (int, error) {
	n, err := number(v)
	if err == nil && int32(n) < 0 {
		err = fmt.Errorf("%w: negative interface index", errNetlink)
	}
	return int(n), err
}
