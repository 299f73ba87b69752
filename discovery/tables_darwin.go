package discovery

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// Positions in route.RouteMessage.Addrs, from <net/route.h>.
const (
	rtaxDst     = 0
	rtaxGateway = 1
	rtaxNetmask = 2
	rtaxIfa     = 5
)

func (kernel) routes() ([]nextHop, error) {
	messages, err := rib(unix.AF_UNSPEC, unix.NET_RT_DUMP, 0)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var out []nextHop
	for _, m := range messages {
		if m.Flags&unix.RTF_UP == 0 || m.Flags&unix.RTF_GATEWAY == 0 || m.Flags&(unix.RTF_LLINFO|unix.RTF_HOST) != 0 {
			continue
		}
		dst, _, ok := ipOf(m, rtaxDst)
		via, zone, okVia := ipOf(m, rtaxGateway)
		if !ok || !okVia || !defaultLike(netip.PrefixFrom(dst, maskBits(m, dst))) {
			continue
		}
		if zone == 0 {
			zone = m.Index
		}
		source, _, _ := ipOf(m, rtaxIfa)
		r := nextHop{Index: zone, Via: via, V6: dst.Is6(), Source: source}
		if m.Flags&unix.RTF_IFSCOPE != 0 {
			r.Metric = 1 // a scoped default is used only by who asks for its interface
		}
		out = append(out, r)
	}
	return out, nil
}

func (kernel) neighbours() ([]entry, error) {
	var out []entry
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		messages, err := rib(family, unix.NET_RT_FLAGS, unix.RTF_LLINFO)
		if err != nil {
			return nil, fmt.Errorf("read neighbours: %w", err)
		}
		for _, m := range messages {
			addr, zone, ok := ipOf(m, rtaxDst)
			link, isLink := addrAt(m, rtaxGateway).(*route.LinkAddr)
			if !ok || !isLink {
				continue
			}
			if zone == 0 {
				zone = max(m.Index, link.Index)
			}
			// The kernel drops an entry when it expires and does not tell its age here: what is there counts as confirmed.
			e := entry{Index: zone, Addr: addr, MAC: macOf(link.Addr), Fresh: true}
			if e.MAC.IsUnicast() && e.Index > 0 {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func rib(family int, kind route.RIBType, arg int) ([]*route.RouteMessage, error) {
	b, err := route.FetchRIB(family, kind, arg)
	if err != nil {
		return nil, err
	}
	all, err := route.ParseRIB(kind, b)
	if err != nil {
		return nil, err
	}
	out := make([]*route.RouteMessage, 0, len(all))
	for _, m := range all {
		if r, ok := m.(*route.RouteMessage); ok {
			out = append(out, r)
		}
	}
	return out, nil
}

func addrAt(m *route.RouteMessage, at int) route.Addr {
	if at >= len(m.Addrs) {
		return nil
	}
	return m.Addrs[at]
}

// ipOf undoes the kernel's habit of writing a link-local address's interface into its second group.
func ipOf(m *route.RouteMessage, at int) (addr netip.Addr, zone int, ok bool) {
	switch a := addrAt(m, at).(type) {
	case *route.Inet4Addr:
		return netip.AddrFrom4(a.IP), 0, true
	case *route.Inet6Addr:
		ip, zone := a.IP, a.ZoneID
		if ip[0] == 0xfe && ip[1]&0xc0 == 0x80 {
			if zone == 0 {
				zone = int(ip[2])<<8 | int(ip[3])
			}
			ip[2], ip[3] = 0, 0
		}
		return netip.AddrFrom16(ip), zone, true
	}
	return netip.Addr{}, 0, false
}

// maskBits reads the prefix length; a default route's mask has length zero and is no address at all.
func maskBits(m *route.RouteMessage, dst netip.Addr) int {
	mask, _, ok := ipOf(m, rtaxNetmask)
	if !ok {
		if dst.IsUnspecified() {
			return 0
		}
		return dst.BitLen()
	}
	bits := 0
	for _, b := range mask.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	return min(bits, dst.BitLen())
}
