package carrier

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"culvert/protocol/rawtcp"
)

// pairAttempts bounds the search for a number that is free for both protocols. Each try asks the
// kernel for another TCP port, so even a machine with half its UDP ports taken fails once in 2^32.
const pairAttempts = 32

// ErrHost means that a listening host is not an IP address.
var ErrHost = errors.New("listening host is not an IP address")

// ListenPair opens UDP and TCP on the same port number. host is an IP address, or empty for every
// address of both families. Where port is taken for either protocol and fallback is set, any number
// free for both is taken instead; port 0 asks for that at once.
func ListenPair(host string, port uint16, fallback bool) (*UDP, *net.TCPListener, error) {
	var addr netip.Addr
	if host != "" {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return nil, nil, fmt.Errorf("%w: %q", ErrHost, host)
		}
	}
	var firstErr error
	if port != 0 {
		udp, tcp, err := listenBoth(netip.AddrPortFrom(addr, port))
		if err == nil || !fallback {
			return udp, tcp, err
		}
		firstErr = err
	}
	for range pairAttempts {
		udp, tcp, err := listenBoth(netip.AddrPortFrom(addr, 0))
		if err == nil {
			return udp, tcp, nil
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return nil, nil, firstErr
}

func listenBoth(addr netip.AddrPort) (*UDP, *net.TCPListener, error) {
	l, err := rawtcp.ListenConfig(addr.Addr()).Listen(context.Background(), network("tcp", addr.Addr()), literal(addr))
	if err != nil {
		return nil, nil, fmt.Errorf("listen: %w", err)
	}
	tcp := l.(*net.TCPListener)
	taken := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
	udp, err := ListenUDP(netip.AddrPortFrom(addr.Addr(), taken))
	if err != nil {
		_ = tcp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}
