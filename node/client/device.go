package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// closeTime bounds the request that closes a tunnel when its connection is closed.
const closeTime = 5 * time.Second

// DialDevice connects to a port of a device: name, NAME@DOMAIN or ID, and "631" or "161/udp". It opens a tunnel for this one
// connection, which is a *net.TCPConn or *net.UDPConn inside, so that CloseWrite works where the device's
// protocol needs it; closing the connection closes the tunnel.
func (c *Client) DialDevice(ctx context.Context, device, port string) (net.Conn, error) {
	t, err := c.Open(ctx, OpenRequest{Device: device, Port: port})
	if err != nil {
		return nil, err
	}
	network := "tcp"
	if strings.HasSuffix(t.Port, "/udp") {
		network = "udp"
	}
	release := &release{client: c, tunnel: t.ID}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, t.Local)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the tunnel: %w", err), release.close())
	}
	switch conn := conn.(type) {
	case *net.TCPConn:
		return &tcpConn{TCPConn: conn, release: release}, nil
	case *net.UDPConn:
		return &udpConn{UDPConn: conn, release: release}, nil
	}
	return nil, errors.Join(fmt.Errorf("connect to the tunnel: unexpected %T", conn), conn.Close(), release.close())
}

// release closes a tunnel once.
type release struct {
	client *Client
	tunnel string
	once   sync.Once
	err    error
}

func (r *release) close() error {
	r.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		err := r.client.CloseTunnel(ctx, r.tunnel)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoDaemon) {
			err = nil // it has ended already
		}
		r.err = err
	})
	return r.err
}

type tcpConn struct {
	*net.TCPConn
	release *release
}

func (c *tcpConn) Close() error { return errors.Join(c.TCPConn.Close(), c.release.close()) }

type udpConn struct {
	*net.UDPConn
	release *release
}

func (c *udpConn) Close() error { return errors.Join(c.UDPConn.Close(), c.release.close()) }
