package nodetest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/config"
	"culvert/protocol/carrier"
)

// site is a network with a firewall. TCP that is not let through is dropped, not refused.
type site struct {
	ports  *webPorts
	noUDP  atomic.Bool
	passes atomic.Pointer[func(address string) bool]
	watch  func(net.Conn) net.Conn // looks into what passes; nil: nobody

	mu      sync.Mutex
	dialled []string
}

// webPorts stand for ports 443 and 80, which tests may not bind.
type webPorts struct{ https, http string }

func (p *webPorts) real(address string) string {
	switch address {
	case "127.0.0.1:443":
		return p.https
	case "127.0.0.1:80":
		return p.http
	}
	return address
}

func (p *webPorts) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, p.real(address))
}

func newWebPorts(t testing.TB) *webPorts {
	return &webPorts{https: freeAddr(t), http: freeAddr(t)}
}

func (s *site) let(passes func(address string) bool) { s.passes.Store(&passes) }

func (s *site) network() node.Network {
	return node.Network{
		UDP: func(c carrier.Conn) carrier.Conn { return &filtered{c, s} }, Getenv: func(string) string { return "" },
		Dial: s.dial, Again: 500 * time.Millisecond,
	}
}

func (s *site) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	s.dialled = append(s.dialled, address)
	s.mu.Unlock()
	if !(*s.passes.Load())(address) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := s.ports.dial(ctx, network, address)
	if err == nil && s.watch != nil {
		c = s.watch(c)
	}
	return c, err
}

// filtered is a socket behind a firewall that may stop UDP both ways.
type filtered struct {
	carrier.Conn
	s *site
}

func (f *filtered) WriteBatch(ms []carrier.Message) (int, error) {
	if f.s.noUDP.Load() {
		return len(ms), nil
	}
	return f.Conn.WriteBatch(ms)
}

func (f *filtered) ReadBatch(ms []carrier.Message) (int, error) {
	for {
		n, err := f.Conn.ReadBatch(ms)
		if err != nil || !f.s.noUDP.Load() {
			return n, err
		}
	}
}

// superAtWebPorts is a super-node that is reached at ports 443 and 80, too.
func (m *mesh) superAtWebPorts(name, domain string, p *webPorts) *agent {
	m.t.Helper()
	a := m.enrolled(name, domain)
	a.set.Super, a.set.Tunnel, a.set.ListenHTTPS, a.set.ListenHTTP = true, false, p.https, p.http
	a.net.Dial = p.dial
	a.start()
	a.serving()
	return a
}

// inside makes an agent in a site, which joins from there.
func (m *mesh) inside(s *site, name, domain string, set func(*config.Config)) *agent {
	m.t.Helper()
	a := m.enrolled(name, "")
	set(&a.set)
	a.net = s.network()
	a.start()
	must[client.Membership](m.t)(a.api.Join(m.t.Context(), m.token(domain, 1), name))
	return a
}

// carriedBy waits until messages travel by one of these, and says by which.
func (a *agent) carriedBy(want ...string) (by string) {
	a.t.Helper()
	eventually(a.t, fmt.Sprint(a.name, " is carried by ", want), func() bool {
		by = a.node.CarrierState().Carrier
		return slices.Contains(want, by)
	})
	return by
}

// noALPN is a box that lets only handshakes of real HTTPS through.
type noALPN struct{ net.Conn }

func (c noALPN) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("culvert/")) {
		_ = c.Close()
		return 0, errors.New("a firewall has seen it")
	}
	return c.Conn.Write(b)
}

// TestUDPBlocked has a user and a tunnel-node in sites from which no UDP comes out: they join, look up, and a relayed tunnel
// carries megabytes; when UDP passes again they go back to it.
func TestUDPBlocked(t *testing.T) {
	t.Parallel()
	ports := newWebPorts(t)
	m := newMeshAs(t, func(m *mesh) { m.net.Dial = ports.dial }, "acme")
	super := m.superAtWebPorts("super", "acme", ports)
	only := func(l ...string) func(string) bool { return func(a string) bool { return slices.Contains(l, a) } }
	proxy := startProxy(t, ports, "127.0.0.1:443", m.https)
	for name, c := range map[string]struct {
		carrier string // or, where that passes as well, any that came up first
		passes  func(string) bool
		watch   func(net.Conn) net.Conn
		proxy   string
	}{
		"all TCP":        {carrier: "tls", passes: func(string) bool { return true }},
		"443 only":       {carrier: "tls", passes: only("127.0.0.1:443")},
		"real HTTPS":     {carrier: "websocket", passes: only("127.0.0.1:443"), watch: func(c net.Conn) net.Conn { return noALPN{c} }},
		"80 only":        {carrier: "websocket", passes: only("127.0.0.1:80")},
		"the proxy only": {carrier: "tls", passes: only(proxy.addr()), proxy: "http://me:secret@" + proxy.addr()},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{ports: ports, watch: c.watch}
			s.noUDP.Store(true)
			s.let(func(a string) bool { return a == m.https && c.proxy == "" || c.passes(a) })
			d := newDevice(t, "printer-"+strings.ReplaceAll(name, " ", "-"))
			behind := func(set func(*config.Config)) func(*config.Config) {
				return func(s *config.Config) {
					s.Proxy = c.proxy
					set(s)
				}
			}
			began := time.Now()
			at := m.inside(s, fmt.Sprintf("workshop-%d", d.port), "acme", behind(consents(d)))
			user := m.inside(s, fmt.Sprintf("desk-%d", d.port), "acme", behind(func(c *config.Config) { c.Tunnel = false }))
			t.Cleanup(at.stop)
			t.Cleanup(user.stop)
			s.let(c.passes)
			m.device(at, d)
			joined := time.Since(began)
			carriers := []string{"websocket"}
			if c.carrier == "tls" {
				carriers = append(carriers, "tls")
			}
			at.carriedBy(carriers...)
			carrier := user.carriedBy(carriers...)
			carried := time.Since(began)
			if p := user.node.CarrierState().Proxy; (p != "") != (c.proxy != "") {
				t.Errorf("by proxy %q", p)
			}
			if s := must[client.Status](t)(user.api.Status(t.Context())).Messages; s.Carrier != carrier || s.Address == "" ||
				(s.Proxy != "") != (c.proxy != "") || strings.Contains(s.Proxy, "secret") {
				t.Errorf("status says %+v", s)
			}
			user.sees(d.name)
			m.announced(super, at)
			tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "relayed"})
			opened := time.Since(began)
			t.Logf("joined after %s, carried after %s, tunnel open after %s", joined, carried, opened)
			pour(t, tun.Local, d.name, 8<<20)
			if c.proxy != "" && !proxy.saw("127.0.0.1:443") {
				t.Error("nothing went through the proxy")
			}

			s.noUDP.Store(false)
			s.let(func(string) bool { return true })
			at.carriedBy("udp")
			user.carriedBy("udp")
			user.sees(d.name)
			talk(t, tun.Local, d.name)
		})
	}
}

// pour sends bytes to a device that sends them back, and compares.
func pour(t *testing.T, local, name string, size int) {
	t.Helper()
	c := must[net.Conn](t)(net.Dial("tcp", local))
	defer c.Close()
	noError(t, c.SetDeadline(time.Now().Add(2*patience)))
	r := bufio.NewReader(c)
	if s, err := r.ReadString('\n'); err != nil || s != name+"\n" {
		t.Fatalf("device said %q, %v; not %q", s, err, name)
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	h := sha256.New()
	n, err := io.Copy(h, r)
	noError(t, errors.Join(err, <-sent))
	if n != int64(size) || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("%d of %d bytes came back, or others", n, size)
	}
}

// connectProxy is an HTTP proxy that lets CONNECT through to some addresses, for who has the password.
type connectProxy struct {
	l     net.Listener
	ports *webPorts
	to    []string

	mu    sync.Mutex
	asked []string
}

func startProxy(t testing.TB, ports *webPorts, to ...string) *connectProxy {
	p := &connectProxy{l: must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), ports: ports, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		p.l.Close()
		wg.Wait()
	})
	return p
}

func (p *connectProxy) addr() string { return p.l.Addr().String() }

func (p *connectProxy) saw(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.asked, address)
}

func (p *connectProxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if req.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("me:secret")) {
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method != http.MethodConnect || !slices.Contains(p.to, req.Host) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := p.ports.dial(context.Background(), "tcp", req.Host)
	if err != nil {
		return
	}
	defer far.Close()
	p.mu.Lock()
	p.asked = append(p.asked, req.Host)
	p.mu.Unlock()
	io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(far, r)
		far.(*net.TCPConn).CloseWrite()
	})
	io.Copy(c, far)
	c.(*net.TCPConn).CloseWrite()
	wg.Wait()
}
