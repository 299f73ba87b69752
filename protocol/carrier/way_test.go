package carrier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"
)

// patientWeb is a Web for which nobody is too slow.
func patientWeb(s Services) *Web {
	w := NewWeb(s, nil)
	w.timeout, w.server.ReadHeaderTimeout = time.Hour, time.Hour
	return w
}

// testWeb offers services on loopback by TLS and by plain HTTP.
func testWeb(t testing.TB, s Services) (https, plain string) {
	t.Helper()
	w := patientWeb(s)
	t.Cleanup(func() { _ = w.Close() })
	listen := func(serve func(*net.TCPListener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := serve(l.(*net.TCPListener)); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	return listen(w.ServeTLS), listen(w.ServeHTTP)
}

// connectProxy is an HTTP proxy that knows CONNECT alone and wants to know who asks.
type connectProxy struct {
	net.Listener
	user, password string

	mu     sync.Mutex
	asked  []string
	denied int
	wg     sync.WaitGroup
}

func startProxy(t testing.TB, user, password string) *connectProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &connectProxy{Listener: l, user: user, password: password}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.wg.Wait()
	})
	return p
}

func (p *connectProxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password))
	p.mu.Lock()
	ok := req.Method == http.MethodConnect && req.Header.Get("Proxy-Authorization") == want
	if ok {
		p.asked = append(p.asked, req.Host)
	} else {
		p.denied++
	}
	p.mu.Unlock()
	if !ok {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := net.Dial("tcp", req.Host)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer far.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, r)
		_ = far.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(c, far)
	_ = c.(*net.TCPConn).CloseWrite()
	wg.Wait()
}

func (p *connectProxy) url(user, password string) string {
	return (&url.URL{Scheme: "http", User: url.UserPassword(user, password), Host: p.Addr().String()}).String()
}

func (p *connectProxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

func never(netip.Addr) bool { return false }

func noEnv(string) string { return "" }

// waysTo are all ways to a peer's ports.
func waysTo(https, plain string, proxied bool) []Way {
	var l []Way
	for _, w := range []Way{{Class{Form: TLS}, https}, {Class{Form: WebSocketTLS}, https}, {Class{Form: WebSocket}, plain}} {
		w.Proxied = proxied
		l = append(l, w)
	}
	return l
}

// TestEveryWayCarriesBytes sends megabytes both ways, ends the directions one by one, and breaks one off.
func TestEveryWayCarriesBytes(t *testing.T) {
	sums := make(chan [32]byte, 1)
	broke := make(chan error, 1)
	https, plain := testWeb(t, Services{ServiceRelay: func(c ByteConn) {
		defer c.Close()
		h := sha256.New()
		if _, err := io.Copy(h, c); err != nil {
			broke <- err
			return
		}
		sums <- [32]byte(h.Sum(nil))
		_, _ = c.Write([]byte("answer after the end"))
		_ = c.CloseWrite()
	}})
	proxy := startProxy(t, "me", "p:ss w@rd")
	proxies, err := NewProxies(proxy.url("me", "p:ss w@rd"), noEnv, never)
	if err != nil {
		t.Fatal(err)
	}
	d := &Dialer{Proxies: proxies, timeout: patience}
	data := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	for _, w := range append(waysTo(https, plain, false), waysTo(https, plain, true)...) {
		t.Run(w.Form.String()+map[bool]string{true: " by proxy"}[w.Proxied], func(t *testing.T) {
			c, err := d.Open(t.Context(), w, ServiceRelay)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "answer after the end" {
				t.Errorf("%q, %v", got, err)
			}
			if <-sums != sha256.Sum256(data) {
				t.Error("other bytes arrived")
			}
			_ = c.Close()

			c, err = d.Open(t.Context(), w, ServiceRelay)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("cut"))
			_ = c.SetLinger(0)
			_ = c.Close()
			select {
			case <-broke:
			case <-sums:
				t.Error("what was broken off looked like an end")
			}
		})
	}
	if n := len(proxy.seen()); n != 6 {
		t.Errorf("%d connections by the proxy, want 6", n)
	}
}

func TestNoWay(t *testing.T) {
	https, _ := testWeb(t, Services{ServiceMessages: func(c ByteConn) { _ = c.Close() }})
	d := &Dialer{timeout: patience}
	for _, f := range []Form{TLS, WebSocketTLS} {
		if _, err := d.Open(t.Context(), Way{Class{Form: f}, https}, ServiceRelay); err == nil {
			t.Errorf("%s: a service that is not offered was opened", f)
		}
	}
	proxy := startProxy(t, "me", "right")
	proxies, err := NewProxies(proxy.url("me", "wrong"), noEnv, never)
	if err != nil {
		t.Fatal(err)
	}
	d.Proxies = proxies
	if _, err := d.Open(t.Context(), Way{Class{Form: TLS, Proxied: true}, https}, ServiceMessages); !errors.Is(err, ErrProxy) {
		t.Errorf("wrong password: %v", err)
	}
}

// TestRaceTakesWhatWorks: the first ways lead nowhere, or to one who never answers.
func TestRaceTakesWhatWorks(t *testing.T) {
	served := make(chan struct{}, 1)
	https, plain := testWeb(t, Services{ServiceMessages: func(c ByteConn) {
		served <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ways := []Way{{Class{Form: TLS}, plain}, {Class{Form: TLS, Own: true}, silent.Addr().String()}, {Class{Form: WebSocketTLS}, https}}
	var memory Memory
	now := time.Now()
	failed := make(chan struct{}) // the first way has, which the last one is not to overtake
	d := Dialer{timeout: patience, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == https {
			<-failed
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	c, w, err := d.Race(t.Context(), ways, ServiceMessages, 20*time.Millisecond, func(w Way, err error) {
		memory.Note(now, w.Class, err == nil)
		if w == ways[0] {
			close(failed)
		}
	})
	if err != nil || w != ways[2] {
		t.Fatalf("won by %v, %v", w, err)
	}
	<-served
	_ = c.Close()
	memory.Sort(now, ways)
	if ways[0].Form != WebSocketTLS || ways[2].Own {
		t.Errorf("sorted as %v", ways)
	}
	if memory.Hopeless(now, ways[2].Class) {
		t.Error("one failure is no proof")
	}
	memory.Note(now, ways[2].Class, false)
	if !memory.Hopeless(now, ways[2].Class) || memory.Hopeless(now.Add(hopelessFor), ways[2].Class) {
		t.Error("two failures count for a while")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := new(Dialer).Race(ctx, ways, ServiceMessages, time.Second, func(Way, error) {}); err == nil {
		t.Error("a race without time was won")
	}
}

func TestProxyOf(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, c := range []struct {
		configured string
		env        map[string]string
		address    string
		want       string
	}{
		{"", nil, "203.0.113.1:443", ""},
		{"", map[string]string{"https_proxy": "proxy.example:3128"}, "203.0.113.1:443", "http://proxy.example:3128"},
		{"", map[string]string{"ALL_PROXY": "http://u:p@proxy.example"}, "op.example:443", "http://u:p@proxy.example:80"},
		{"", map[string]string{"ALL_PROXY": "socks5://proxy.example"}, "op.example:443", ""},
		{"http://a:1", map[string]string{"HTTPS_PROXY": "http://b:2"}, "op.example:443", "http://a:1"},
		{"http://a:1", map[string]string{"NO_PROXY": ".example, 10.0.0.0/8"}, "op.example:443", ""},
		{"http://a:1", map[string]string{"NO_PROXY": "203.0.113.0/24"}, "203.0.113.9:443", ""},
		{"http://a:1", map[string]string{"no_proxy": "other.example:443"}, "op.example:443", "http://a:1"},
		{"http://a:1", map[string]string{"no_proxy": "*"}, "op.example:443", ""},
		{"http://a:1", nil, "192.168.1.5:443", ""},
		{"http://a:1", nil, "[fe80::1]:443", ""},
		{"http://a:1", nil, "[::ffff:10.1.1.1]:443", ""},
		{"http://a:1", nil, "localhost:443", ""},
		{"http://a:1", nil, "127.0.0.1:443", ""},
	} {
		p, err := NewProxies(c.configured, env(c.env), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if u := p.For(c.address); u != nil {
			got = u.String()
		}
		if got != c.want {
			t.Errorf("%q, %v, %s: %q, want %q", c.configured, c.env, c.address, got, c.want)
		}
	}
	if _, err := NewProxies("ftp://secret@x", noEnv, nil); err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
		t.Errorf("%v", err)
	}
	for _, port := range []string{"0", "99999"} {
		if _, err := NewProxies("http://me:secret@x:"+port, noEnv, nil); err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("port %s: %v", port, err)
		}
	}
	for want, value := range map[string]string{"HTTPS_PROXY": "http://me:secret@x:port", "": "http://x:3128"} {
		p, err := NewProxies("", env(map[string]string{"HTTPS_PROXY": value}), nil)
		if err != nil || p.Unused() != want {
			t.Errorf("%s: unused is %q, %v", value, p.Unused(), err)
		}
	}
	if p := (*Proxies)(nil); p.For("op.example:443") != nil || p.Any() {
		t.Error("no proxies are some")
	}
}
