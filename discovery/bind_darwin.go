package discovery

import "golang.org/x/sys/unix"

// bindTo chooses the interface; on a refusal the route decides.
func bindTo(fd uintptr, network string, on Interface) {
	if network == "udp6" {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_BOUND_IF, on.Index)
		return
	}
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BOUND_IF, on.Index)
}
