package punch

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"culvert/protocol"
)

// mostReadErrors in a row end a reader: on some systems each refused packet is an error of a read.
const mostReadErrors = 1000

// socket is a further socket of a meeting, with its reader.
type socket struct {
	udp  *net.UDPConn
	done sync.WaitGroup
}

// open opens further sockets, as many as it is given.
func (a *attempt) open(n int) {
	n = a.all.lease(n)
	for i := range n {
		udp, err := net.ListenUDP("udp4", nil) // only IPv4 is translated
		if err != nil {
			a.all.release(n - i)
			return
		}
		s := &socket{udp: udp}
		a.sockets = append(a.sockets, s)
		number := len(a.sockets)
		s.done.Go(func() { a.read(number, s) })
	}
}

// read brings punch packets to the attempt until the socket is closed or handed over.
func (a *attempt) read(number int, s *socket) {
	var buf [2 * protocol.PunchSize]byte
	for bad := 0; bad < mostReadErrors; {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf[:])
		switch {
		case errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			bad++
		default:
			bad = 0
			a.deliver(number, from, buf[:n])
		}
	}
}

// stop ends the reader and leaves the socket open.
func (s *socket) stop() {
	_ = s.udp.SetReadDeadline(time.Unix(1, 0))
	s.done.Wait()
	_ = s.udp.SetReadDeadline(time.Time{})
}

// closeSockets closes all further sockets but the one handed over.
func (a *attempt) closeSockets() {
	if a.freed {
		return
	}
	a.freed = true
	for _, s := range a.sockets {
		if s != a.winner {
			_ = s.udp.Close()
		}
	}
	for _, s := range a.sockets {
		s.done.Wait()
	}
	a.all.release(len(a.sockets))
}

// conn is the socket that was handed over. Punch packets that still come go to the attempt, which may have to confirm.
type conn struct {
	udp     *net.UDPConn
	attempt *attempt
	number  int
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.udp.ReadFromUDPAddrPort(b)
		if err != nil {
			return n, nil, err
		}
		if n == protocol.PunchSize && b[0] == protocol.TypePunch {
			c.attempt.deliver(c.number, from, b[:n])
			continue
		}
		return n, net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), nil
	}
}

// WriteTo implements net.PacketConn.
func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) { return c.udp.WriteTo(b, to) }

// Close implements net.PacketConn.
func (c *conn) Close() error { return c.udp.Close() }

// LocalAddr implements net.PacketConn.
func (c *conn) LocalAddr() net.Addr { return c.udp.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (c *conn) SetDeadline(t time.Time) error { return c.udp.SetDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.udp.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.udp.SetWriteDeadline(t) }

// SetReadBuffer is what QUIC asks for.
func (c *conn) SetReadBuffer(bytes int) error { return c.udp.SetReadBuffer(bytes) }

// SetWriteBuffer is what QUIC asks for.
func (c *conn) SetWriteBuffer(bytes int) error { return c.udp.SetWriteBuffer(bytes) }

// SyscallConn is what QUIC sets the don't-fragment bit by.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

var _ net.PacketConn = (*conn)(nil)
