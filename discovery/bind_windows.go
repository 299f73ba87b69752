package discovery

import (
	"math/bits"

	"golang.org/x/sys/windows"
)

// From ws2ipdef.h: x/sys does not name them.
const (
	ipUnicastIf   = 31
	ipv6UnicastIf = 31
)

// bindTo chooses the interface; on a refusal the route decides. IPv4 wants the index in network byte order, IPv6 does not.
func bindTo(fd uintptr, network string, on Interface) {
	if network == "udp6" {
		_ = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IPV6, ipv6UnicastIf, on.Index)
		return
	}
	_ = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IP, ipUnicastIf, int(bits.ReverseBytes32(uint32(on.Index))))
}
