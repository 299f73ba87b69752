package rawtcp

import (
	"net"
	"syscall"
)

// unpace has a connection that never leaves this machine sent without pauses: where the system's congestion control paces
// (BBR), a timer for every packet costs more than the packet, and there is no path to spare. Others keep what the system gives
// them. Reno is in every kernel and allowed to everybody; where it is not to be had all stays as it was.
func unpace(c *net.TCPConn, raw syscall.RawConn) {
	if !onThisMachine(c) {
		return
	}
	_ = raw.Control(takeReno)
}

func takeReno(fd uintptr) {
	_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}

// unpaceSocket does it before there is a connection, on a listener for all that it will accept. It does more than unpace, as BBR
// marks a connection as paced when it is established, which stays when another takes its place.
func unpaceSocket(_, _ string, raw syscall.RawConn) error { return raw.Control(takeReno) }

// onThisMachine reports whether both ends are here.
func onThisMachine(c *net.TCPConn) bool {
	near, ok := c.LocalAddr().(*net.TCPAddr)
	far, also := c.RemoteAddr().(*net.TCPAddr)
	return ok && also && within(near.IP, far.IP)
}

// within tells it by addresses of loopback, or by the same one.
func within(near, far net.IP) bool { return far.IsLoopback() || far.Equal(near) }
