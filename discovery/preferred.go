package discovery

import (
	"net"
	"net/netip"

	"github.com/libp2p/go-netroute"
)

// preferred asks the system for its way to a root name server's address: it knows policy routing, which a route list does not show.
// No packet is sent.
func (kernel) preferred(v6 bool) (index int, via netip.Addr, ok bool) {
	r, err := netroute.New()
	if err != nil {
		return 0, netip.Addr{}, false
	}
	dst := net.IPv4(198, 41, 0, 4)
	if v6 {
		dst = net.IP{0x20, 1, 5, 3, 0xba, 0x3e, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x30}
	}
	ifi, gw, _, err := r.Route(dst)
	if err != nil || ifi == nil {
		return 0, netip.Addr{}, false
	}
	via, ok = netip.AddrFromSlice(gw)
	return ifi.Index, via.Unmap(), ok && !via.IsUnspecified()
}
