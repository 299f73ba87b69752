package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"culvert/protocol"
)

// carried hands a connection to the tunnel and returns its other end; told is sent to when the device has answered.
func carried(t *testing.T, ctx context.Context, tn *Tunnel) (client *net.TCPConn, told <-chan struct{}, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	check(t, err)
	s, err := l.Accept()
	check(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	tell, end := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		end <- tn.Carry(ctx, s.(*net.TCPConn), func() error { tell <- struct{}{}; return nil })
	}()
	return c.(*net.TCPConn), tell, end
}

func TestCarry(t *testing.T) {
	w, user, node := two(t)
	near := w.agent(testDomain, 2, prefixes("192.168.7.11/24"))
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node, near)
	for _, c := range []struct {
		from  *agent
		route Route
	}{{user, Direct}, {user, Relayed}, {near, LAN}} {
		tn, err := c.from.OpenBare(t.Context(), OpenRequest{Device: "echo", Port: 9100, Routes: []Route{c.route}, Caller: "test"})
		check(t, err)
		if i := tn.Info(); i.Local.IsValid() || i.Route != c.route || i.Caller != "test" {
			t.Errorf("%s: %+v", c.route, i)
		}
		data := noise(1 << 20)
		conn, told, ended := carried(t, t.Context(), tn)
		<-told
		if got := exchange(t, conn, data); !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes of %d", c.route, len(got), len(data))
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", c.route, err)
		}
		if i := tn.Info(); i.Receipt.Sent != 1<<20 || i.Receipt.Received != 1<<20 || i.Receipt.Conns != 1 || i.Open != 0 {
			t.Errorf("%s: %+v", c.route, i)
		}

		// Neither the end of the context nor that of the tunnel leaves a connection behind, and neither is an orderly end.
		ctx, cancel := context.WithCancel(t.Context())
		conn, told, ended = carried(t, ctx, tn)
		<-told
		cancel()
		if _, err := io.ReadAll(conn); err == nil {
			t.Errorf("%s: an orderly end by the context", c.route)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: no error by the context", c.route)
		}
		conn, told, ended = carried(t, t.Context(), tn)
		<-told
		tn.Close()
		if _, err := io.ReadAll(conn); err == nil {
			t.Errorf("%s: an orderly end by Close", c.route)
		}
		<-ended
		if _, _, ended = carried(t, t.Context(), tn); !tn.Closed() || !errors.Is(<-ended, ErrClosed) {
			t.Errorf("%s: a closed tunnel carries", c.route)
		}
	}
}

// A device that refuses is told before anything else, and leaves the connection to its owner.
func TestCarryRefused(t *testing.T) {
	w, user, node := two(t)
	near := w.agent(testDomain, 2, prefixes("192.168.7.11/24"))
	dev := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node, near)
	for _, from := range []*agent{user, near} {
		tn, err := from.OpenBare(t.Context(), OpenRequest{Device: "echo", Port: 9100})
		check(t, err)
		defer tn.Close()
	}
	w.mu.Lock()
	at := w.real[benchDevice()]
	w.real[benchDevice()] = "127.0.0.1:1" // nobody listens there
	w.mu.Unlock()
	for _, from := range []*agent{user, near} {
		tn := from.Tunnels()[0]
		conn, told, ended := carried(t, t.Context(), tn)
		if err := <-ended; !errors.Is(err, ErrDeviceRefused) || len(told) > 0 {
			t.Errorf("%v, told %d", err, len(told))
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Errorf("the connection was touched: %v", err)
		}
		if _, err := from.OpenBare(t.Context(), OpenRequest{Device: "echo", Port: 9100}); !errors.Is(err, ErrDeviceRefused) {
			t.Errorf("opened: %v", err)
		}
	}
	w.mu.Lock()
	w.real[benchDevice()] = at
	w.mu.Unlock()
	w.change(dev, func(v *protocol.EndDeviceValue) { v.Ports = nil })
	tn := user.Tunnels()[0]
	if _, _, ended := carried(t, t.Context(), tn); !errors.Is(<-ended, ErrNotAllowed) {
		t.Error("a port that is registered no more is carried")
	}
}
