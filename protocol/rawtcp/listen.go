package rawtcp

import (
	"context"
	"net"
	"net/netip"
)

// Listener accepts connections for pumps.
type Listener struct {
	*net.TCPListener
	ready bool // what is accepted has inherited all that New would set
}

// Listen listens for connections.
func Listen(addr netip.AddrPort) (*Listener, error) {
	c := ListenConfig(addr.Addr())
	tcp, err := c.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return &Listener{tcp.(*net.TCPListener), addr.Addr().IsLoopback()}, nil
}

// AcceptConn waits for the next connection.
func (l *Listener) AcceptConn() (*Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.ready), nil
}

// ListenConfig is for listening at addr. Where that is loopback, the connections inherit from the listener what New would set,
// and more of it: a connection that once was paced keeps some of it for ever. Nobody is asked whether he lives: the system closes
// a program's connections when it ends.
func ListenConfig(addr netip.Addr) *net.ListenConfig {
	c := &net.ListenConfig{}
	c.SetMultipathTCP(false) // its sockets know no splice
	if addr.IsLoopback() {
		c.KeepAlive = -1
		c.Control = unpaceSocket
	}
	return c
}

// Dial connects to addr.
func Dial(ctx context.Context, addr netip.AddrPort) (*Conn, error) {
	var d net.Dialer
	here := addr.Addr().IsLoopback()
	if here { // as for those that are accepted
		d.KeepAlive = -1
		d.Control = unpaceSocket
	}
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return newConn(c.(*net.TCPConn), here), nil
}
