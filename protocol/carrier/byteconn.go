package carrier

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// ByteConn is a connection whose directions end one by one, as TCP's do, over whatever it is laid. After SetLinger(0) Close
// breaks it off, so that the peer cannot take it for an orderly end.
type ByteConn interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

var (
	_ ByteConn = (*net.TCPConn)(nil)
	_ ByteConn = (*Peeked)(nil)
	_ ByteConn = (*tlsConn)(nil)
	_ ByteConn = (*webSocket)(nil)
)

// bareTCP is the TCP connection at the bottom of another, nil where there is none.
func bareTCP(c net.Conn) *net.TCPConn {
	for {
		switch t := c.(type) {
		case *net.TCPConn:
			return t
		case *Peeked:
			return t.TCPConn
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

// linger breaks a connection off at its bottom.
type linger struct{ off atomic.Bool }

func (l *linger) set(c net.Conn, sec int) error {
	tcp := bareTCP(c)
	if tcp == nil {
		return nil
	}
	if sec == 0 {
		l.off.Store(true)
	}
	return tcp.SetLinger(sec)
}

// breakOff closes what lies beneath, which waits for nothing and says nothing.
func breakOff(c net.Conn) error {
	for {
		t, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c.Close()
		}
		c = t.NetConn()
	}
}

// tlsConn is TLS as a ByteConn.
type tlsConn struct {
	*tls.Conn
	broken linger
}

// OverTLS makes a ByteConn of a TLS connection.
func OverTLS(c *tls.Conn) ByteConn { return &tlsConn{Conn: c} }

// SetLinger implements ByteConn.
func (c *tlsConn) SetLinger(sec int) error {
	if sec == 0 {
		c.broken.off.Store(true)
		return nil
	}
	return c.broken.set(c.Conn, sec)
}

// brokenFor bounds how long Close waits to break off.
const brokenFor = 50 * time.Millisecond

// Close implements net.Conn. Package tls takes an end of TCP between two records for an orderly end, and a proxy makes one
// of a reset; so half a record is sent before, which nobody takes for one.
func (c *tlsConn) Close() error {
	if !c.broken.off.Load() {
		return c.Conn.Close()
	}
	beneath := c.Conn.NetConn()
	_ = beneath.SetWriteDeadline(time.Now().Add(brokenFor))
	if _, err := beneath.Write([]byte{firstByteTLS}); err != nil {
		_ = c.broken.set(beneath, 0)
	}
	return breakOff(beneath)
}

const (
	// wsChunk is the longest binary message that is sent; longer ones are taken.
	wsChunk = 32 << 10
	// wsParting bounds how long Close waits to say that it ends.
	wsParting = time.Second
)

// webSocket is a WebSocket as a ByteConn. Deadlines hold for the connection beneath, and one that passes ends it.
type webSocket struct {
	net.Conn // beneath: for addresses and deadlines
	ws       *websocket.Conn
	broken   linger

	reading sync.Mutex
	message io.Reader // under way
	some    bool      // of it has been read
	ended   bool

	writing sync.Mutex
	said    bool // our direction has ended
}

var errWriteEnded = errors.New("websocket: this direction has ended")

// NetConn is the connection beneath.
func (c *webSocket) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *webSocket) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if c.ended {
			return 0, io.EOF
		}
		if c.message == nil {
			kind, r, err := c.ws.Reader(background)
			if err != nil {
				return 0, wsError(err)
			}
			if kind != websocket.MessageBinary {
				_ = breakOff(c.Conn)
				return 0, errors.New("websocket: not a binary message")
			}
			c.message, c.some = r, false
		}
		n, err := c.message.Read(p)
		c.some = c.some || n > 0
		if err == io.EOF {
			c.message, err = nil, nil
			c.ended = !c.some
		}
		if n > 0 || err != nil {
			return n, wsError(err)
		}
	}
}

// wsError keeps the end of the connection from looking like the end of a direction.
func wsError(err error) error {
	var ne net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ne):
		return ne
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, io.EOF), websocket.CloseStatus(err) != -1:
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write implements net.Conn.
func (c *webSocket) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.said {
		return 0, errWriteEnded
	}
	done := 0
	for done < len(p) {
		chunk := p[done:min(done+wsChunk, len(p))]
		if err := c.ws.Write(background, websocket.MessageBinary, chunk); err != nil {
			return done, wsError(err)
		}
		done += len(chunk)
	}
	return done, nil
}

// CloseWrite implements ByteConn.
func (c *webSocket) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.sayEndLocked()
}

func (c *webSocket) sayEndLocked() error {
	if c.said {
		return nil
	}
	c.said = true
	return wsError(c.ws.Write(background, websocket.MessageBinary, nil))
}

// SetLinger implements ByteConn.
func (c *webSocket) SetLinger(sec int) error { return c.broken.set(c.Conn, sec) }

// Close implements net.Conn. A writer that is stuck is broken off.
func (c *webSocket) Close() error {
	if !c.broken.off.Load() && c.writing.TryLock() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(wsParting))
		_ = c.sayEndLocked()
		c.writing.Unlock()
	}
	err := breakOff(c.Conn)
	_ = c.ws.CloseNow()
	return err
}
