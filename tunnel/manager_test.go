package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
)

// two is a user at one site and a tunnel-node at another, with two relays between.
func two(t testing.TB, opts ...agentOption) (*world, *agent, *agent) {
	w := newWorld(t)
	user := w.agent(testDomain, 1, prefixes("192.168.1.20/24"), opts...)
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24", "203.0.113.5/24"), opts...)
	w.relayNode("198.51.100.1:7700")
	w.relayNode("198.51.100.2:7700")
	return w, user, node
}

func exchange(t testing.TB, c *net.TCPConn, data []byte) []byte {
	t.Helper()
	errs := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if err == nil {
			err = c.CloseWrite()
		}
		errs <- err
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	return got
}

// tryExchange is exchange where it may fail.
func tryExchange(tn *Tunnel, data []byte) ([]byte, error) {
	c, err := net.Dial("tcp", tn.Local().String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(data); err != nil {
		return nil, err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

// endsInOrder connects and reads to the end; a reset may come as early as in the dial.
func endsInOrder(tn *Tunnel) bool {
	c, err := net.Dial("tcp", tn.Local().String())
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = io.ReadAll(c)
	return err == nil
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), 1}).Read(b)
	return b
}

func TestRoutes(t *testing.T) {
	w, user, node := two(t)
	near := w.agent(testDomain, 2, prefixes("192.168.7.11/24"), func(_ *agent, _ *Config, id *Identity) { id.Serve = false })
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	for _, c := range []struct {
		from  *agent
		want  Route
		route []Route
	}{{user, Direct, nil}, {user, Direct, []Route{Direct}}, {user, Relayed, []Route{Relayed}}, {near, LAN, []Route{LAN}}} {
		release := func() {}
		if c.want != Relayed { // which a busy machine may have first
			release = w.hold("198.51.100.1:7700", "198.51.100.2:7700")
		}
		tn := c.from.tunnel(t, "echo", 9100, c.route...)
		release()
		info := tn.Info()
		if info.Route != c.want || info.TunnelNode != node.node.ID || (info.Relay.IsZero()) != (c.want != Relayed) {
			t.Errorf("wanted %s: %+v", c.want, info)
		}
		data := noise(3 << 20)
		if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, data) {
			t.Errorf("%s: other bytes came back", c.want)
		}
		worked := slices.DeleteFunc(slices.Clone(info.Receipt.Attempts), func(a Attempt) bool { return a.Error != "" })
		if len(worked) != 1 || worked[0].Route != c.want || worked[0].Took <= 0 {
			t.Errorf("receipt: %+v", info.Receipt)
		}
	}
	// This node itself serves the device: no link.
	self := node.tunnel(t, "echo", 9100)
	if i := self.Info(); i.Route != LAN || i.TunnelNode != node.node.ID {
		t.Errorf("self: %+v", i)
	}
	if got := exchange(t, dialTunnel(t, self), []byte("hello")); string(got) != "hello" {
		t.Errorf("self: %q", got)
	}
	if s := node.Served(); len(s) == 0 || s[0].Conns == 0 {
		t.Errorf("the tunnel-node's receipt: %+v", s)
	}
}

func TestDialBack(t *testing.T) {
	w := newWorld(t)
	user := w.agent(testDomain, 1, prefixes("203.0.113.77/24"))
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24"))
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100, Direct)
	data := noise(4 << 20)
	for taken := uint64(0); taken == 0; { // the link may be done before the flow's own connection is there
		if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, data) {
			t.Fatal("other bytes came back")
		}
		if taken = user.Stats()["bulk taken"]; taken > 1 {
			t.Errorf("%d flows of their own connection, dialled by the tunnel-node", taken)
		}
	}
}

func TestBulkHash(t *testing.T) {
	size := 200 << 20
	if testing.Short() {
		size = 8 << 20
	}
	w, user, node := two(t)
	w.device("sink", "192.168.7.50:9100", 2, hashDevice, node)
	data := noise(size)
	want := sha256.Sum256(data)
	for _, r := range []Route{Direct, Relayed} {
		tn := user.tunnel(t, "sink", 9100, r)
		began := time.Now()
		if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, want[:]) {
			t.Errorf("%s: other bytes arrived", r)
		}
		t.Logf("%s: %.0f MB/s", r, float64(size)/1e6/time.Since(began).Seconds())
	}
	var own uint64
	for _, a := range []*agent{user, node} {
		own += a.Stats()["bulk taken"]
	}
	if own == 0 {
		t.Error("no flow got a connection of its own")
	}
}

func TestHalfCloseBothWays(t *testing.T) {
	w, user, node := two(t)
	first := make(chan struct{}, 8)
	w.device("talker", "192.168.7.51:23", 2, func(c *net.TCPConn) { // ends first, then listens
		defer c.Close()
		_, _ = c.Write([]byte("banner"))
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		if string(b) == "after the end" {
			first <- struct{}{}
		}
	}, node)
	for _, r := range []Route{Direct, Relayed} {
		c := dialTunnel(t, user.tunnel(t, "talker", 23, r))
		if b, err := io.ReadAll(c); err != nil || string(b) != "banner" {
			t.Fatalf("%s: %q, %v", r, b, err)
		}
		if _, err := c.Write([]byte("after the end")); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		<-first
	}
}

func TestResetIsPassedOnBothWays(t *testing.T) {
	w, user, node := two(t)
	seen, staying := make(chan error, 4), make(chan struct{}, 4)
	w.device("resetter", "192.168.7.52:80", 2, func(c *net.TCPConn) {
		b := make([]byte, 16)
		n, err := c.Read(b)
		if string(b[:n]) == "go away" {
			abort(c)
			return
		}
		if err == io.EOF { // the probe
			_ = c.Close()
			return
		}
		staying <- struct{}{}
		_, err = c.Read(b)
		seen <- err
		_ = c.Close()
	}, node)
	tn := user.tunnel(t, "resetter", 80)
	c := dialTunnel(t, tn)
	_, _ = c.Write([]byte("go away"))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the device's reset arrived as an orderly end")
	}
	c = dialTunnel(t, tn)
	_, _ = c.Write([]byte("stay"))
	<-staying
	abort(c)
	if err := <-seen; err == nil || err == io.EOF {
		t.Errorf("the program's reset arrived as %v", err)
	}
}

func TestErrorsTellDeviceFromRoute(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	w.device("off", "192.168.7.60:9100", 2, nil, node)
	closed := freePort(t)
	w.device("closed", "192.168.7.61:9100", 2, echoDevice, node)
	w.mu.Lock()
	for a := range w.real {
		if a.Addr().String() == "192.168.7.61" {
			w.real[a] = closed.String()
		}
	}
	w.mu.Unlock()
	gone := w.device("gone", "192.168.7.62:9100", 2, nil, node)
	w.mu.Lock()
	delete(node.macs, [6]byte(gone.Value.MAC))
	w.mu.Unlock()
	own := w.device("own", "192.168.7.63:9100", 2, nil, node)
	w.change(own, func(v *protocol.EndDeviceValue) { v.MAC, v.Node = nil, node.node.ID })
	local := w.device("linklocal", "192.168.7.64:80", 2, nil, node)
	w.mu.Lock()
	node.macs[[6]byte(local.Value.MAC)] = loopback()
	w.mu.Unlock()
	admins := w.device("admins", "192.168.7.65:9100", 2, echoDevice, node)
	w.change(admins, func(v *protocol.EndDeviceValue) { v.Allow = []string{"admins"} })
	lost := w.device("lost", "192.168.7.66:9100", 2, echoDevice, node)
	w.mu.Lock()
	w.targets[lost.ID] = nil
	w.mu.Unlock()
	for _, c := range []struct {
		device string
		port   uint16
		want   error
	}{
		{"off", 9100, ErrDeviceUnreachable}, {"closed", 9100, ErrDeviceRefused}, {"gone", 9100, ErrDeviceNotFound},
		{"nobody", 9100, ErrUnknownDevice}, {"echo", 22, ErrNotAllowed}, {"own", 9100, ErrNotAllowed},
		{"linklocal", 80, ErrNotAllowed}, {"admins", 9100, ErrNotAllowed}, {"lost", 9100, ErrNoRoute},
	} {
		_, err := user.Open(context.Background(), OpenRequest{Device: c.device, Port: c.port})
		if !errors.Is(err, c.want) {
			t.Errorf("%s:%d: got %v, want %v", c.device, c.port, err, c.want)
		}
	}
	for _, p := range []protocol.Transport{protocol.UDP, 50} { // the port is registered for TCP
		if _, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Protocol: p}); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("protocol %d: %v", p, err)
		}
	}
	// The device's port changes hands: a lying user still gets nothing, the tunnel-node asks its own records.
	tn := user.tunnel(t, "echo", 9100)
	dev, _ := user.Device(context.Background(), testDomain, "echo")
	w.change(dev, func(v *protocol.EndDeviceValue) { v.Allow = []string{"admins"} })
	if endsInOrder(tn) {
		t.Error("a connection that is no longer allowed ended in order")
	}
	until(t, "the connection is over", func() bool { return tn.Info().Open == 0 })
	if s := tn.Info().Error; s == "" {
		t.Error("the tunnel does not say why")
	}
}

func TestHundredFlowsWithOneStuck(t *testing.T) {
	for _, r := range []Route{Direct, Relayed} {
		w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.PromoteAfter = -1 })
		release := make(chan struct{})
		w.device("stuck", "192.168.7.70:80", 2, func(c *net.TCPConn) {
			defer c.Close()
			<-release
		}, node)
		w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
		stuck := dialTunnel(t, user.tunnel(t, "stuck", 80, r))
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = stuck.Write(make([]byte, 64<<20))
		}()
		tn := user.tunnel(t, "echo", 9100, r)
		var wg sync.WaitGroup
		for i := range 100 {
			c := dialTunnel(t, tn)
			wg.Go(func() {
				data := noise(100<<10 + i)
				if got := exchange(t, c, data); !bytes.Equal(got, data) {
					t.Error("other bytes came back")
				}
			})
		}
		wg.Wait()
		if n := user.Stats()["links now"]; n != 1 {
			t.Errorf("%s: %d links between two nodes", r, n)
		}
		close(release)
		_ = stuck.Close()
		<-wrote
	}
}
