package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

const (
	discardPort = 9 // RFC 863: nobody minds a datagram there
	// sockets share the load because each unresolved neighbour holds its datagram for up to 3 s in the socket's send buffer,
	// which has room for some 270 of them.
	sockets      = 4
	writeTimeout = 50 * time.Millisecond
)

func newDatagrams(on Interface) *datagrams { return &datagrams{on: on, ping: newPinger(on)} }

// datagrams is the prober that needs no privilege.
type datagrams struct {
	on   Interface
	v4   [sockets]net.PacketConn // the first is opened with the first use
	v6   [sockets]net.PacketConn
	next int
	ping *pinger
}

var _ prober = (*datagrams)(nil)

func (d *datagrams) ask(addr netip.Addr) error { return d.touch(addr) }
func (d *datagrams) hears() bool               { return false }

func (d *datagrams) touch(addr netip.Addr) error {
	d.next = (d.next + 1) % sockets
	conns, network := &d.v4, "udp4"
	if addr.Is6() {
		conns, network = &d.v6, "udp6"
	}
	if conns[d.next] == nil {
		c, err := listenOn(d.on, network, ":0")
		if err != nil {
			return err
		}
		conns[d.next] = c
	}
	return send(conns[d.next], []byte{0}, &net.UDPAddr{IP: addr.AsSlice(), Port: discardPort, Zone: zoneFor(d.on, addr)})
}

func (d *datagrams) allNodes() { d.ping.ask() }

// heard has nothing to say itself, but those who answered a ping are made known to the kernel.
func (d *datagrams) heard() []sighting {
	for _, addr := range d.ping.replies() {
		_ = d.touch(addr)
	}
	return nil
}

func (d *datagrams) Close() error {
	d.ping.close()
	for _, c := range append(d.v4[:], d.v6[:]...) {
		if c != nil {
			_ = c.Close() // nothing is buffered here that a failed close could lose
		}
	}
	return nil
}

// send gives up soon and says errBusy where the kernel has no room.
func send(c net.PacketConn, b []byte, to net.Addr) error {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	_, err := c.WriteTo(b, to)
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOBUFS), errors.As(err, &timeout) && timeout.Timeout():
		return errBusy
	default:
		return fmt.Errorf("probe: %w", err)
	}
}

// zoneFor is the number of the interface: package net remembers for a minute which number a name had, and interfaces come and go.
func zoneFor(on Interface, addr netip.Addr) string {
	if addr.Is6() && (addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast()) {
		return strconv.Itoa(on.Index)
	}
	return ""
}

// listenOn opens a socket that sends through the interface where the system lets an unprivileged process say so: a VPN's policy
// routing would otherwise take the probe elsewhere. Where it does not, the route decides.
func listenOn(on Interface, network, address string) (net.PacketConn, error) {
	bound := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { bindTo(fd, network, on) })
	}}
	c, err := bound.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("probe socket: %w", err)
	}
	return c, nil
}
