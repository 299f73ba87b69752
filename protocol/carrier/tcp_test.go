package carrier

import (
	"cmp"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// testTLS is a server's configuration with a throw-away key.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

// startTCP serves a loopback listener until the test ends. Nobody is too slow for it unless the test says when.
func startTCP(t testing.TB, cfg TCPConfig) *TCP {
	t.Helper()
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Hour)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ServeTCP(l.(*net.TCPListener), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// dial connects and sends what is given; the connection is closed with the test.
func dial(t testing.TB, s *TCP, first ...byte) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if len(first) > 0 {
		if _, err := conn.Write(first); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// ended waits until the server has closed conn.
func ended(t testing.TB, conn net.Conn) {
	t.Helper()
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the server keeps the connection")
	}
}

// count fails unless exactly this many connections ended so. The counter moves before the close
// that a client sees.
func count(t testing.TB, s *TCP, name string, want uint64) {
	t.Helper()
	if got := s.Stats()[name]; got != want {
		t.Fatalf("%q is %d, want %d: %v", name, got, want, s.Stats())
	}
}

func echo(p *Peeked) {
	defer p.Close()
	_, _ = io.Copy(p, p)
}

func say(text string) func(*tls.Conn) {
	return func(c *tls.Conn) {
		defer c.Close()
		_, _ = io.WriteString(c, text)
	}
}

func TestStreamsTellApart(t *testing.T) {
	s := startTCP(t, TCPConfig{
		TLS:       testTLS(t),
		Protocols: map[string]func(*tls.Conn){"culvert/link/1": say("link"), "http/1.1": say("web"), "": say("none")},
		Raw:       map[byte]func(*Peeked){0x08: echo},
	})
	for protocol, want := range map[string]string{"culvert/link/1": "link", "http/1.1": "web", "": "none"} {
		cfg := &tls.Config{InsecureSkipVerify: true}
		if protocol != "" {
			cfg.NextProtos = []string{protocol}
		}
		conn := tls.Client(dial(t, s), cfg)
		if got, err := io.ReadAll(conn); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", protocol, got, err)
		}
	}
	raw := dial(t, s, 0x08, 'a', 'b')
	if err := raw.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(raw); err != nil || string(got) != "\x08ab" {
		t.Errorf("raw: %q, %v", got, err)
	}
	count(t, s, "served", 4)

	ended(t, dial(t, s, 0x09))
	count(t, s, "unknown first byte", 1)
	ended(t, dial(t, s, 0x16, 'G', 'E', 'T', ' ', '/'))
	count(t, s, "handshake failed", 1)
	strange := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}})
	if err := strange.Handshake(); err == nil || errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a strange protocol got %v, want an alert", err)
	}
	ended(t, strange.NetConn())
	count(t, s, "handshake failed", 2)
	left := dial(t, s)
	if err := left.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ended(t, left)
	count(t, s, "left before first byte", 1)
}

func TestStreamsWithoutHandlerForNoProtocol(t *testing.T) {
	s := startTCP(t, TCPConfig{TLS: testTLS(t), Protocols: map[string]func(*tls.Conn){"http/1.1": say("web")}})
	conn := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true})
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	count(t, s, "no such protocol", 1)
}

func TestStreamsTimeouts(t *testing.T) {
	s := startTCP(t, TCPConfig{
		TLS:       testTLS(t),
		Protocols: map[string]func(*tls.Conn){"http/1.1": say("web")},
		Raw:       map[byte]func(*Peeked){0x08: echo},
		Timeout:   20 * time.Millisecond,
	})
	ended(t, dial(t, s))
	count(t, s, "silent", 1)
	for s.Stats()["handshake too slow"] == 0 { // one whose first byte comes late on this machine counts as silent
		conn := dial(t, s)
		_, _ = conn.Write([]byte{0x16})
		ended(t, conn)
	}

	var served *net.TCPConn
	for s.Stats()["served"] == 0 {
		served = dial(t, s)
		_, _ = served.Write([]byte{0x08})
		if _, err := io.ReadFull(served, make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	ended(t, dial(t, s)) // outlives the time limit
	if _, err := served.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(served, make([]byte, 1)); err != nil {
		t.Fatal("the limit outlived the introduction:", err)
	}
}

// A thousand and more silent connections, whether they fit or push each other out, delay nobody.
func TestSilentConnectionsDelayNobody(t *testing.T) {
	const silent = 5000
	for name, halfOpen := range map[string]int{"all fit": 3 * silent, "crowded": 512} {
		t.Run(name, func(t *testing.T) {
			s := startTCP(t, TCPConfig{
				TLS:       testTLS(t),
				Protocols: map[string]func(*tls.Conn){"culvert/link/1": say("link")},
				Raw:       map[byte]func(*Peeked){0x08: echo},
				HalfOpen:  halfOpen, PerSource: 3 * silent, // who waited for the silent ones would wait for longer than any deadline here
			})
			conns := make([]*net.TCPConn, silent)
			for i := range conns {
				conns[i] = dial(t, s)
			}
			conn := dial(t, s, 0x08)
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			link := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"culvert/link/1"}})
			if got, err := io.ReadAll(link); err != nil || string(got) != "link" {
				t.Fatal(string(got), err)
			}
			count(t, s, "silent", 0)
			if halfOpen < silent {
				ended(t, conns[0]) // the oldest made room
				// Where the queue of the listener was full, the last of them may be accepted after those who spoke.
				eventually(t, func() bool { return s.Stats()["too many half-open"] >= silent-uint64(halfOpen) })
			}
		})
	}
}

// Stalled handshakes fill their own room only.
func TestStalledHandshakesDelayNobody(t *testing.T) {
	s := startTCP(t, TCPConfig{
		TLS:       testTLS(t),
		Protocols: map[string]func(*tls.Conn){"culvert/link/1": say("link")},
		HalfOpen:  40, PerSource: 1000,
	})
	for range 200 {
		dial(t, s, 0x16)
	}
	link := tls.Client(dial(t, s), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"culvert/link/1"}})
	if got, err := io.ReadAll(link); err != nil || string(got) != "link" {
		t.Fatal(string(got), err)
	}
}

func TestPerSourceCap(t *testing.T) {
	s := startTCP(t, TCPConfig{Raw: map[byte]func(*Peeked){0x08: echo}, PerSource: 3})
	oldest := dial(t, s)
	for range 3 {
		dial(t, s)
	}
	ended(t, oldest)
	count(t, s, "too many from source", 1)
	conn := dial(t, s, 0x08)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal("a newcomer behind the same address is shut out:", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	running := make(chan struct{})
	s := startTCP(t, TCPConfig{Raw: map[byte]func(*Peeked){0x08: func(p *Peeked) {
		running <- struct{}{}
		echo(p)
	}}})
	silent, held := dial(t, s), dial(t, s, 0x08)
	<-running
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, silent)
	ended(t, held)
	if err := s.Close(); err != nil {
		t.Fatal("second close:", err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.LocalAddr().String()); err == nil {
		t.Fatal("still listening")
	}
}

func TestWaitSaysWhyTheListenerEnded(t *testing.T) {
	s := startTCP(t, TCPConfig{Raw: map[byte]func(*Peeked){0x08: echo}})
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func TestStreamConfigHalfGiven(t *testing.T) {
	for _, cfg := range []TCPConfig{{TLS: testTLS(t)}, {Protocols: map[string]func(*tls.Conn){"": say("")}}} {
		if _, err := ServeTCP(nil, cfg); !errors.Is(err, ErrTCPConfig) {
			t.Fatal(err)
		}
	}
}
