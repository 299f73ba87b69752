package quicconn

import (
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"time"
)

// alone is a socket on which nobody but one peer is spoken with.
type alone struct {
	net.PacketConn
	peer netip.AddrPort

	open  sync.Once
	wants chan struct{} // closed when there is somebody to read for
}

// Alone makes the Socket of pc, on which QUIC is spoken with one peer and nothing else: packets that start a connection are
// taken from that address alone, others from everywhere, since the peer's NAT may give it another port. Nothing is read before
// somebody dials or waits: the peer may be quicker than this side, and what he sends then waits in the system's queue.
func Alone(pc net.PacketConn, peer netip.AddrPort) Socket {
	if b, ok := pc.(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(aloneBuffer) // a refusal leaves the system's default, which works too
	}
	return &alone{PacketConn: pc, peer: plain(peer), wants: make(chan struct{})}
}

// aloneBuffer holds the first burst of a wide window.
const aloneBuffer = 1 << 20

// ReadFrom implements net.PacketConn.
func (a *alone) ReadFrom(b []byte) (int, net.Addr, error) {
	<-a.wants
	for {
		n, from, err := a.PacketConn.ReadFrom(b)
		if err != nil || n > 0 && (b[0]&0x80 == 0 || addrPort(from) == a.peer) {
			return n, from, err
		}
	}
}

func (a *alone) want() { a.open.Do(func() { close(a.wants) }) }

// WriteTo implements net.PacketConn.
func (a *alone) WriteTo(b []byte, to net.Addr) (int, error) {
	a.want()
	return a.PacketConn.WriteTo(b, to)
}

// SetReadDeadline implements net.PacketConn.
func (a *alone) SetReadDeadline(t time.Time) error {
	err := a.PacketConn.SetReadDeadline(t)
	a.want() // who reads is to be let go
	return err
}

// Admit implements Socket.
func (a *alone) Admit(_ time.Time, addr netip.AddrPort, _ time.Time) bool {
	a.want()
	return plain(addr) == a.peer
}

// Dismiss implements Socket: nobody else is spoken with here later.
func (a *alone) Dismiss(netip.AddrPort) {}

// ConnectionID implements Socket.
func (a *alone) ConnectionID() (id [10]byte, err error) {
	_, err = rand.Read(id[:])
	return id, err
}

// SetReadBuffer has nothing left to do; without it QUIC would complain to the log.
func (a *alone) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is like SetReadBuffer.
func (a *alone) SetWriteBuffer(int) error { return nil }
