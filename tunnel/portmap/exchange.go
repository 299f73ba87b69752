package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

// firstRepeat is when a question is repeated for the first time, each pause being twice the last one (RFC 6886: 250 ms).
const firstRepeat = 250 * time.Millisecond

// datagrams asks a router's port from the address that is to be mapped.
type datagrams struct {
	gw   Gateway
	port uint16
}

// ask sends the question until parse is content with an answer, or refuses for a reason, or ctx ends. Others' datagrams do
// not arrive: the socket is connected.
func (d datagrams) ask(ctx context.Context, question []byte, parse func(b []byte, at time.Time) error) error {
	conn, err := dialFrom(ctx, "udp", d.gw, netip.AddrPortFrom(d.gw.Addr, d.port))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 2048)
	for pause := firstRepeat; ; pause *= 2 {
		if _, err := conn.Write(question); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(pause)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", errSilent, ctx.Err())
		}
		for {
			n, err := conn.Read(b)
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", errSilent, ctx.Err())
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil { // refused: nobody listens there
				return fmt.Errorf("%w: %w", errSilent, err)
			}
			if err := parse(b[:n], time.Now()); !errors.Is(err, errForeign) {
				return err
			}
		}
	}
}

// dialFrom connects from the gateway's Local; a link-local address is one of its interface.
func dialFrom(ctx context.Context, network string, gw Gateway, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{}
	a := to.Addr()
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(gw.Interface)
	}
	switch network {
	case "udp":
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(gw.Local, 0))
	case "tcp":
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(gw.Local, 0))
	}
	return d.DialContext(ctx, network, net.JoinHostPort(a.String(), strconv.Itoa(int(to.Port()))))
}
