package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

func TestConnect(t *testing.T) {
	m := newMesh()
	s := serve(t, Config{Opener: m})
	text := strings.Repeat("a page and more ", 10_000)
	for _, name := range []string{"printer.acme.culvert", "PRINTER@acme", "printer.acme.culvert."} {
		c, reply := ask(t, s, name, 631)
		if reply != Succeeded {
			t.Fatalf("%s: %s", name, reply)
		}
		echoes(t, c, text)
	}
	if got := m.targets(); !slices.Equal(got, []Target{{"printer", "acme", 631}}) {
		t.Errorf("opened %v, want one tunnel for all", got)
	}
	if c, reply := ask(t, s, "printer.acme.culvert", 9100); reply != Succeeded || len(m.targets()) != 2 {
		t.Errorf("another port: %s by %v", reply, m.targets())
	} else {
		echoes(t, c, "x")
	}
}

// A client that another party wrote.
func TestForeignClient(t *testing.T) {
	s := serve(t, Config{Opener: newMesh(), User: "anna", Password: "secret"})
	for _, c := range []struct {
		auth *proxy.Auth
		ok   bool
	}{{&proxy.Auth{User: "anna", Password: "secret"}, true}, {&proxy.Auth{User: "anna", Password: "x"}, false}, {nil, false}} {
		d, err := proxy.SOCKS5("tcp", s.Addr().String(), c.auth, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := d.Dial("tcp", "printer.culvert:631")
		if (err == nil) != c.ok {
			t.Fatalf("%+v: %v", c.auth, err)
		}
		if c.ok {
			conn.Close()
		}
	}
}

// What a client says before it has its answer belongs to the device.
func TestEagerClient(t *testing.T) {
	s := serve(t, Config{Opener: newMesh()})
	c := connect(t, s)
	if _, err := io.WriteString(c, "\x05\x01\x00"+connectTo("printer.culvert", 631)+"early"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "\x05\x00"+string(Succeeded.message())+"early" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	m := newMesh()
	broken := errors.New("broken")
	m.fail = func(t Target) error {
		if t.Device == "unknown" {
			return broken
		}
		return nil
	}
	m.refuse = func(t Target) error {
		if t.Device == "off" {
			return errRefused
		}
		return nil
	}
	var mu sync.Mutex
	counted := map[string]int{}
	s := serve(t, Config{Opener: m, Reply: func(err error) Reply {
		switch err {
		case broken:
			return HostUnreachable
		case errRefused:
			return Refused
		}
		return Failed
	}, Count: func(r string) { mu.Lock(); counted[r]++; mu.Unlock() }})
	for _, c := range []struct {
		name string
		want Reply
	}{
		{"example.org", NotAllowed}, {"127.0.0.1", NotAllowed}, {"printer", NotAllowed}, {"", NotAllowed},
		{"unknown.culvert", HostUnreachable}, {"off.culvert", Refused}, {"off.culvert", Refused},
	} {
		conn, reply := ask(t, s, c.name, 80)
		if reply != c.want {
			t.Errorf("%q: %s, want %s", c.name, reply, c.want)
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("%q: the end is %q, %v", c.name, rest, err)
		}
	}
	for _, t := range m.targets() {
		if t.Device != "unknown" && t.Device != "off" {
			panic("looked for " + t.String())
		}
	}
	for in, want := range map[string]Reply{
		"\x05\x02\x00\x03\x0fprinter.culvert\x02\x77":                        NoCommand,
		"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00":                           NoCommand,
		"\x05\x01\x00\x09":                                                   NoAddressType,
		"\x05\x01\x00\x01\xc0\xa8\x01\x02\x00\x50":                           NotAllowed,
		"\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x50":     NotAllowed,
		"\x05\x01\x00\x03\x0fprinter.culvert\x00\x00":                        NotAllowed, // port 0
		"\x05\x02\x00\x03\x0fprinter.culvert\x02\x77" + "and more of a talk": NoCommand,
	} {
		conn := connect(t, s)
		if _, err := io.WriteString(conn, "\x05\x01\x00"+in); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "\x05\x00"+string(want.message()) {
			t.Errorf("%x: %x, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"GET http://printer.culvert/ HTTP/1.1\r\n\r\n", "\x04\x01\x02\x77\x00\x00\x00\x01\x00"} {
		conn := connect(t, s)
		if _, err := io.WriteString(conn, in); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || len(got) > 0 {
			t.Errorf("%q is answered with %q, %v", in, got, err)
		}
	}
	conn := connect(t, s)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for reason, want := range map[string]int{"socks: not SOCKS5": 2, "socks: left before the request": 1,
		"socks: answered connection refused": 2, "socks: answered host unreachable": 1, "socks: answered command not supported": 3} {
		if counted[reason] != want {
			t.Errorf("%s: counted %d, want %d", reason, counted[reason], want)
		}
	}
}

// Many connections at once open one tunnel; one that was closed is opened anew.
func TestTunnelsAreShared(t *testing.T) {
	m := newMesh()
	m.hold = make(chan struct{})
	s := serve(t, Config{Opener: m})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			d, err := proxy.SOCKS5("tcp", s.Addr().String(), nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			c, err := d.Dial("tcp", "printer.culvert:631")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		})
	}
	close(m.hold)
	all.Wait()
	if n := len(m.targets()); n != 1 {
		t.Errorf("%d tunnels opened", n)
	}
	first := <-m.opened
	first.Close() // as `culvert close` does
	_, reply := ask(t, s, "printer.culvert", 631)
	if second := <-m.opened; reply != Succeeded || second == first {
		t.Errorf("after a closed one: %s", reply)
	}
}

// A tunnel without a connection is closed, and opened anew for the next.
func TestIdleTunnelIsClosed(t *testing.T) {
	m := newMesh()
	s := serve(t, Config{Opener: m, Idle: 40 * time.Millisecond})
	c, _ := ask(t, s, "printer.culvert", 631)
	first := <-m.opened
	c.Close()
	wait(t, first.closed)
	_, reply := ask(t, s, "printer.culvert", 631)
	if second := <-m.opened; reply != Succeeded || second == first {
		t.Errorf("after the idle one: %s", reply)
	}
}

// A tunnel in use outlives the idle time.
func TestBusyTunnelStays(t *testing.T) {
	m := newMesh()
	s := serve(t, Config{Opener: m, Idle: time.Hour})
	c, _ := ask(t, s, "printer.culvert", 631)
	e := <-m.opened
	s.pool.sweep(time.Now().Add(time.Hour))
	if e.Closed() {
		t.Error("a tunnel in use was closed")
	}
	echoes(t, c, "still there")
}

func TestConnectionLimit(t *testing.T) {
	counted := make(chan string, 64)
	s := serve(t, Config{Opener: newMesh(), Connections: 1, Count: func(r string) { counted <- r }})
	a, _ := ask(t, s, "a.culvert", 1)
	over := connect(t, s)
	if got, _ := io.ReadAll(over); len(got) > 0 {
		t.Errorf("one connection too many is told %x", got)
	}
	if r := <-counted; r != "socks: too many connections" {
		t.Error(r)
	}
	echoes(t, a, "x")
	again(t, s, "b.culvert") // once the first has left its place
}

func TestTunnelLimit(t *testing.T) {
	m := newMesh()
	s := serve(t, Config{Opener: m, Tunnels: 1})
	a, _ := ask(t, s, "a.culvert", 1)
	if _, reply := ask(t, s, "b.culvert", 1); reply != Failed {
		t.Errorf("one tunnel too many: %s", reply)
	}
	echoes(t, a, "x")
	again(t, s, "b.culvert") // once the first is unused
	wait(t, (<-m.opened).closed)
}

// again asks until there is room.
func again(t *testing.T, s *Server, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		c := connect(t, s)
		var said [12]byte
		_, _ = io.WriteString(c, "\x05\x01\x00"+connectTo(name, 1))
		if _, err := io.ReadFull(c, said[:]); err == nil && Reply(said[3]) == Succeeded {
			return
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("there is never room again")
		}
	}
}

func TestSlowHandshake(t *testing.T) {
	counted := make(chan string, 1)
	s := serve(t, Config{Opener: newMesh(), Handshake: 30 * time.Millisecond, Count: func(r string) { counted <- r }})
	c := connect(t, s)
	_, _ = io.WriteString(c, "\x05") // its time may be over by then
	var timeout net.Error
	if _, err := io.ReadAll(c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error(err)
	}
	if r := <-counted; r != "socks: handshake too slow" {
		t.Error(r)
	}
}

// Close ends clients in the handshake, clients that wait for a tunnel, and clients that talk.
func TestClose(t *testing.T) {
	m := newMesh()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(l, Config{Opener: m})
	if err != nil {
		t.Fatal(err)
	}
	talking, _ := ask(t, s, "a.culvert", 1)
	e := <-m.opened
	m.hold = make(chan struct{})
	silent, waiting := connect(t, s), connect(t, s)
	if _, err := io.WriteString(waiting, "\x05\x01\x00"+connectTo("b.culvert", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(waiting, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []*net.TCPConn{talking, silent, waiting} {
		var timeout net.Error
		if _, err := io.ReadAll(c); errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("a connection outlives the server")
		}
	}
	if !e.Closed() {
		t.Error("a tunnel outlives the server")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestServesLoopbackOnly(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", "192.0.2.1:1080", ":1080", "localhost:1080", "", "[::]:0"} {
		if l, err := Listen(a); err == nil {
			l.Close()
			t.Errorf("listens at %q", a)
		}
	}
	l, err := Listen("[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(l, Config{Opener: newMesh(), User: "anna"}); err == nil {
		t.Error("a user without a password is taken")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is left open: %v", err)
	}
}

func wait(t *testing.T, c <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatal("it does not happen")
	}
}
