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

// Listen listens for connections. Where addr is one of loopback, the connections have what New sets from the listener, one
// call less for each; and nobody is asked whether he lives, four calls less: the system closes a program's connections when
// it ends.
func Listen(addr netip.AddrPort) (*Listener, error) {
	l := &Listener{}
	var c net.ListenConfig
	c.SetMultipathTCP(false) // its sockets know no splice
	if addr.Addr().IsLoopback() {
		c.KeepAlive = -1
		l.ready = true
		c.Control = unpaceListener
	}
	tcp, err := c.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	l.TCPListener = tcp.(*net.TCPListener)
	return l, nil
}

// AcceptConn waits for the next connection.
func (l *Listener) AcceptConn() (*Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.ready), nil
}

// Dialer calls addr. Nobody on this machine is asked whether he lives.
func Dialer(addr netip.Addr) *net.Dialer {
	if addr.IsLoopback() {
		return &near
	}
	return &far
}

var near, far = net.Dialer{KeepAlive: -1}, net.Dialer{}
