package quicconn

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// past is a deadline that lets whoever waits go.
var past = time.Unix(1, 0)

// Conn is a QUIC connection, and as a net.Conn its first stream. One goroutine may read and another write.
type Conn struct {
	e  *Endpoint
	qc *quic.Conn
	s  *quic.Stream

	closed  atomic.Bool
	reading sync.Mutex // held while somebody reads
	writing sync.Mutex
	timing  sync.Mutex // deadlines and closed, in one order
}

var (
	_ net.Conn = (*Conn)(nil)
	_ net.Conn = (*stream)(nil)
)

// State is that of the TLS handshake.
func (c *Conn) State() tls.ConnectionState { return c.qc.ConnectionState().TLS }

// Done is closed when the connection has ended, on whichever side.
func (c *Conn) Done() <-chan struct{} { return c.qc.Context().Done() }

// Open opens a further stream. The peer sees it with the first byte written. Where too many are open it waits.
func (c *Conn) Open(ctx context.Context) (net.Conn, error) {
	s, err := c.qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{c: c, s: s}, nil
}

// Accept waits for a further stream of the peer's. After the connection's end it fails.
func (c *Conn) Accept(ctx context.Context) (net.Conn, error) {
	s, err := c.qc.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{c: c, s: s}, nil
}

// Remote is the peer's address by its latest packets.
func (c *Conn) Remote() netip.AddrPort { return addrPort(c.qc.RemoteAddr()) }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	n, err := c.s.Read(b)
	if err != nil && c.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.s.Write(b)
	if err != nil && c.closed.Load() {
		err = net.ErrClosed
	}
	return n, err
}

// Close ends the connection with all its streams. It does not wait: what was written has lingerFor to arrive.
func (c *Conn) Close() error {
	c.timing.Lock()
	again := c.closed.Swap(true)
	if !again {
		_ = c.s.SetDeadline(past) // lets go who reads and writes
	}
	c.timing.Unlock()
	if again {
		return nil
	}
	if !c.e.spawn(c.linger) {
		return c.qc.CloseWithError(codeClosed, "")
	}
	return nil
}

// linger says that nothing more comes, and waits for the peer to say the same: he does so when he has read it all.
func (c *Conn) linger() {
	c.writing.Lock()
	err := c.s.Close()
	c.writing.Unlock()
	if err == nil {
		c.reading.Lock()
		_ = c.s.SetReadDeadline(time.Now().Add(c.e.times.linger))
		_, _ = io.Copy(io.Discard, c.s)
		c.reading.Unlock()
	}
	_ = c.qc.CloseWithError(codeClosed, "")
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.qc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.qc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.set(c.s.SetDeadline, t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(c.s.SetReadDeadline, t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.set(c.s.SetWriteDeadline, t) }

// set leaves the deadlines of a closed connection to linger.
func (c *Conn) set(f func(time.Time) error, t time.Time) error {
	c.timing.Lock()
	defer c.timing.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	return f(t)
}

// stream is a further stream of a connection.
type stream struct {
	c *Conn
	s *quic.Stream

	writing sync.Mutex
	once    sync.Once
}

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) { return s.s.Read(b) }

// Write implements net.Conn.
func (s *stream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.s.Write(b)
}

// Close implements net.Conn. What was written is delivered; a write that is still under way is broken off with a reset.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.s.CancelRead(codeReset)
		if !s.writing.TryLock() {
			s.s.CancelWrite(codeReset)
			return
		}
		_ = s.s.Close()
		s.writing.Unlock()
	})
	return nil
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.c.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.c.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error { return s.s.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.s.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.s.SetWriteDeadline(t) }
