// Package mmsg is the bare reference's own UDP socket: recvmmsg and sendmmsg as any program calls them, 64 datagrams at most, IPv4,
// nothing joined by the kernel, no allocation a packet. The benchmark's references read and write through it and not through package
// carrier, so that what is gained or lost there shows. Where the system has no such calls it moves a datagram a call.
package mmsg

import (
	"fmt"
	"net"
	"net/netip"

	"culvert/protocol/carrier"
)

const (
	batch   = 64      // datagrams a system call
	buffers = 4 << 20 // of the kernel's, each way
)

// Conn is one socket. One goroutine reads it and one writes, at a time.
type Conn struct {
	sock  *net.UDPConn
	local netip.AddrPort
	calls
}

var _ carrier.Conn = (*Conn)(nil)

// Listen opens a socket at an IPv4 address; port 0 takes any free one.
func Listen(at netip.AddrPort) (*Conn, error) {
	s, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("mmsg: %w", err)
	}
	// The kernel may give less; then some of a window is lost, which is counted.
	_ = s.SetReadBuffer(buffers)
	_ = s.SetWriteBuffer(buffers)
	c := &Conn{sock: s, local: s.LocalAddr().(*net.UDPAddr).AddrPort()}
	if err := c.open(s); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("mmsg: %w", err)
	}
	return c, nil
}

// ReadBatch waits for a datagram and takes all that are there, as many as ms has room for.
func (c *Conn) ReadBatch(ms []carrier.Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	return c.read(ms[:min(len(ms), batch)])
}

// WriteBatch writes all.
func (c *Conn) WriteBatch(ms []carrier.Message) (sent int, err error) {
	for len(ms) > 0 && err == nil {
		var n int
		n, err = c.write(ms[:min(len(ms), batch)])
		sent, ms = sent+n, ms[n:]
	}
	return sent, err
}

// LocalAddr is the bound address.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// Socket is the socket itself, for its deadlines.
func (c *Conn) Socket() *net.UDPConn { return c.sock }

// Close makes blocked calls return.
func (c *Conn) Close() error { return c.sock.Close() }
