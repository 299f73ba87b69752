package discovery

import (
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// pingAllNodes sends an echo request to ff02::1 from each of our routable addresses on the interface. Who answers must resolve us
// first, and its solicitation puts its own address and MAC into our kernel's table: the answers themselves are of no interest.
func pingAllNodes(on Interface) {
	echo, err := (&icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: 1, Seq: 1, Data: []byte("culvert")}}).Marshal(nil)
	if err != nil {
		return
	}
	for _, p := range on.Prefixes {
		if p.Addr().Is6() && deviceAddr(p.Addr()) {
			pingFrom(on, p.Addr(), echo)
		}
	}
}

// pingFrom tries the socket that systems give to everybody, then the one for the privileged; without either, nothing happens.
func pingFrom(on Interface, local netip.Addr, echo []byte) {
	all := net.ParseIP("ff02::1")
	for _, network := range []string{"udp6", "ip6:ipv6-icmp"} {
		c, err := icmp.ListenPacket(network, local.String())
		if err != nil {
			continue
		}
		var to net.Addr = &net.IPAddr{IP: all, Zone: on.Name}
		if network == "udp6" {
			to = &net.UDPAddr{IP: all, Zone: on.Name}
		}
		err = send(c, echo, to)
		_ = c.Close() // only the question mattered
		if err == nil {
			return
		}
	}
}
