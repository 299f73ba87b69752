package nat

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// CanHop reports whether Hop can tell anything on this system.
const CanHop = true

const (
	// hopWait is for how long a router may take to say that a datagram has died.
	hopWait          = 600 * time.Millisecond
	icmpTimeExceeded = 11
	extendedErr      = 16 // bytes of struct sock_extended_err, before the address of who reports
)

// Hop sends data to an IPv4 address from a socket of its own so that it lives for that many hops, and tells which router says that it died there, or
// that to itself has answered. Neither is no error: many routers say nothing. It needs no privilege: the kernel hands ICMP errors
// to the socket that caused them (IP_RECVERR).
func Hop(ctx context.Context, to netip.AddrPort, hops int, data []byte) (hop netip.Addr, reached bool, err error) {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return hop, false, fmt.Errorf("hop: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	rc, err := c.SyscallConn()
	if err != nil {
		return hop, false, fmt.Errorf("hop: %w", err)
	}
	var set error
	err = rc.Control(func(fd uintptr) {
		if set = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1); set == nil {
			set = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TTL, hops)
		}
	})
	if err == nil {
		err = set
	}
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(hopWait))
	}
	if err == nil && ctx.Err() == nil {
		_, err = c.WriteToUDPAddrPort(data, to)
	}
	if err != nil {
		return hop, false, fmt.Errorf("hop: %w", err)
	}
	look := func(fd uintptr) (done bool) {
		hop, reached = hopAnswer(int(fd), to)
		return hop.IsValid() || reached
	}
	if rc.Read(look) != nil { // the deadline, or a poller that takes a queued error for a broken socket
		_ = rc.Control(func(fd uintptr) { look(fd) })
	}
	return hop, reached, nil
}

// hopAnswer takes what waits at a socket: errors first.
func hopAnswer(fd int, to netip.AddrPort) (hop netip.Addr, reached bool) {
	var buf, oob [512]byte
	for range 8 {
		_, n, _, _, err := unix.Recvmsg(fd, buf[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if hop = reporter(oob[:n]); hop.IsValid() {
			return hop, false
		}
	}
	for range 8 {
		n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		if err == unix.EAGAIN || err == nil && n == 0 {
			break
		}
		if a, ok := from.(*unix.SockaddrInet4); err == nil && ok && netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)) == to {
			return hop, true
		}
	}
	return hop, false
}

// reporter is who says, in the control messages of a queued error, that a datagram has died on its way.
func reporter(oob []byte) (hop netip.Addr) {
	l, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return hop
	}
	for _, m := range l {
		if m.Header.Level != unix.SOL_IP || m.Header.Type != unix.IP_RECVERR || len(m.Data) < extendedErr+8 {
			continue
		}
		// errno 4 | origin 1 | type 1 | code 1 | pad 1 | info 4 | data 4, then sockaddr_in: family 2 | port 2 | address 4
		origin, kind, a := m.Data[4], m.Data[5], m.Data[extendedErr:]
		if origin == unix.SO_EE_ORIGIN_ICMP && kind == icmpTimeExceeded && binary.NativeEndian.Uint16(a) == unix.AF_INET {
			hop = netip.AddrFrom4([4]byte(a[4:8]))
		}
	}
	return hop
}
