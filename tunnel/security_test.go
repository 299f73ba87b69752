package tunnel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
	"culvert/tunnel/relay"
)

// dialLink calls a node as somebody, resting on a request's hash.
func dialLink(t *testing.T, w *world, as *agent, to *agent, hash protocol.Hash) (*link.Link, error) {
	t.Helper()
	cert, err := link.Certificate(as.pair.Signing)
	check(t, err)
	raw, err := net.Dial("tcp", to.streams.LocalAddr().String())
	check(t, err)
	c := tls.Client(raw, link.ClientTLS(&cert, to.node))
	if err := c.Handshake(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	conn, err := link.FromTLS(c)
	check(t, err)
	l, err := link.New(context.Background(), conn, link.Config{
		Local: as.node.ID, Node: as.node.Record, Request: hash, Role: link.RoleUser, Dialler: true,
		Admit: func(h link.Hello, _ bool) (*protocol.CertifiedNode, error) {
			return w.trust.CheckNode(append([]byte(nil), h.Node...), time.Now())
		},
	})
	if err == nil {
		t.Cleanup(func() { l.Close(link.ReasonClosing); _ = l.Wait() })
	}
	return l, err
}

func TestLinksWithoutRightAreRefused(t *testing.T) {
	w, user, node := two(t)
	other := w.agent(testDomain, 1, prefixes("192.168.1.21/24"))
	foreign := w.agent(testDomain+1, 1, prefixes("192.168.1.22/24"))
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	ask := func(from *agent) (protocol.TunnelOpened, protocol.Hash) {
		a, h, err := from.Request(context.Background(), from.node.ID, Target{Node: node.node},
			protocol.TunnelRequest{Device: d.ID, Port: 9100, Protocol: protocol.TCP})
		check(t, err)
		return a, h
	}
	refusedFor := func(what string, reason link.Reason, err error) {
		t.Helper()
		var gone *link.GoneError
		if !errors.As(err, &gone) || gone.Reason != reason {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := dialLink(t, w, user, node, protocol.Hash{1})
	refusedFor("no request", link.ReasonRequest, err)
	_, hash := ask(user)
	_, err = dialLink(t, w, other, node, hash)
	refusedFor("another node's request", link.ReasonRequest, err)
	if _, err := dialLink(t, w, user, node, hash); err != nil {
		t.Fatalf("its own request: %v", err)
	}
	_, err = dialLink(t, w, user, node, hash)
	refusedFor("spent request", link.ReasonRequest, err)

	if a, _ := ask(foreign); a.Status != protocol.StatusNotAllowed && a.Status != protocol.StatusUnknown {
		t.Errorf("a foreign domain's request: %s", a.Status)
	}
	if _, err := dialLink(t, w, foreign, node, hash); err == nil {
		t.Error("a link from a foreign domain")
	}
	// A certificate shown by somebody who does not hold its key.
	thief := *other
	thief.node = user.node
	_, hash = ask(user)
	if _, err := dialLink(t, w, &thief, node, hash); err == nil {
		t.Error("a stolen certificate was taken")
	}
	// A node that is called proves its own key.
	imposter := *node
	imposter.node = w.certify(w.pair(), testDomain, 1, time.Hour)
	if _, err := dialLink(t, w, user, &imposter, hash); err == nil {
		t.Error("somebody else answered the call")
	}
	until(t, "all are counted", func() bool { return node.Stats()["links refused"] >= 5 && node.Stats()["links taken"] >= 1 })
	if s := node.Stats(); s["links taken"] != 1 {
		t.Errorf("%v", s)
	}
	w.mu.Lock()
	w.revoked[other.node.ID] = true
	w.mu.Unlock()
	if a, _ := ask(other); a.Status != protocol.StatusRevoked {
		t.Errorf("a revoked node's request: %s", a.Status)
	}
}

func TestLinkGivesNoRightToOtherDevices(t *testing.T) {
	w, user, node := two(t)
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	a, hash, err := user.Request(context.Background(), user.node.ID, Target{Node: node.node},
		protocol.TunnelRequest{Device: d.ID, Port: 9100, Protocol: protocol.TCP})
	check(t, err)
	if a.Status != protocol.StatusOK {
		t.Fatal(a.Status)
	}
	l, err := dialLink(t, w, user, node, hash)
	check(t, err)
	for name, c := range map[string]struct {
		open link.Open
		want link.Reason
	}{
		"other port":   {link.Open{Device: d.ID, Port: 22, Protocol: protocol.TCP}, link.ReasonPort},
		"other device": {link.Open{Device: testID(99), Port: 9100, Protocol: protocol.TCP}, link.ReasonUnknownDevice},
		"UDP":          {link.Open{Device: d.ID, Port: 9100, Protocol: protocol.UDP}, link.ReasonPort},
		"registered":   {link.Open{Device: d.ID, Port: 9100, Protocol: protocol.TCP}, link.ReasonNone},
	} {
		f, err := l.Open(c.open)
		check(t, err)
		err = f.Opened(context.Background())
		var refused *link.RefusedError
		if c.want == link.ReasonNone && err != nil || c.want != link.ReasonNone && (!errors.As(err, &refused) || refused.Reason != c.want) {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
}

func TestTokenJoinsOnce(t *testing.T) {
	w := newWorld(t)
	user := w.agent(testDomain, 1, prefixes("192.168.1.20/24"))
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24", "203.0.113.5/24"))
	r := w.relayNode("198.51.100.1:7700") // the only one: both ends have joined there
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	user.tunnel(t, "echo", 9100, Relayed)
	r.mu.Lock()
	joins := r.joins
	r.mu.Unlock()
	if len(joins) != 2 {
		t.Fatalf("%d joins", len(joins))
	}
	for _, raw := range joins {
		c, err := net.Dial("tcp", r.streams.LocalAddr().String())
		check(t, err)
		if err := relay.Join(context.Background(), c, raw); !errors.Is(err, relay.ErrNotJoined) {
			t.Errorf("a recorded join: %v", err)
		}
	}
	if n := r.relay.Stats()["token spent"]; n != 2 {
		t.Errorf("%d refused as spent", n)
	}
}

func TestHostileRecordsDialNothing(t *testing.T) {
	w := newWorld(t)
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24", "fd00::10/64"))
	r := rand.New(rand.NewPCG(3, 4))
	dials := 0
	node.dialer.dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
		dials++
		return nil, errors.New("a hostile target was dialled")
	}
	a, _ := askFor()
	a.Local, a.Requester = node.node.ID, node.node
	for i := range 10000 {
		addr := hostile(r)
		if i%2 == 0 {
			node.macs = map[[6]byte]netip.Addr{[6]byte(a.Device.Value.MAC): addr}
		} else {
			b := a
			b.Device.Value.MAC, b.Device.Value.Address, b.Device.Value.TLSPin = nil, addr, make([]byte, 32)
			if _, err := node.dialer.connect(context.Background(), b); !errors.Is(err, ErrNotAllowed) {
				t.Fatalf("%s: %v", addr, err)
			}
			continue
		}
		if _, err := node.dialer.connect(context.Background(), a); !errors.Is(err, ErrNotAllowed) {
			t.Fatalf("%s: %v", addr, err)
		}
	}
	if dials != 0 {
		t.Errorf("%d dials", dials)
	}
}

func TestSpoofedPinnedDeviceGetsNothing(t *testing.T) {
	w, user, node := two(t)
	cert, err := link.Certificate(w.pair().Signing)
	check(t, err)
	got := make(chan int, 64)
	d := w.device("pinned", "192.168.7.80:443", 2, func(c *net.TCPConn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		defer c.Close()
		n := 0
		if s.Handshake() == nil {
			n64, _ := io.Copy(io.Discard, s)
			n = int(n64)
		}
		got <- n
	}, node)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	check(t, err)
	pin := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	w.change(d, func(v *protocol.EndDeviceValue) { v.TLSPin = pin[:] })
	user.tunnel(t, "pinned", 443)
	dials := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.dials[netip.MustParseAddrPort("192.168.7.80:443")]
	}
	seen := dials()
	user.tunnel(t, "pinned", 443)
	if n := dials(); n != seen+1 {
		t.Errorf("%d dials, the pin was checked a moment ago", n-seen)
	}
	w.change(d, func(v *protocol.EndDeviceValue) { v.TLSPin = make([]byte, 32) })
	if _, err := user.Open(context.Background(), OpenRequest{Device: "pinned", Port: 443}); !errors.Is(err, ErrDevicePin) {
		t.Errorf("got %v", err)
	}
	for len(got) > 0 {
		if n := <-got; n != 0 {
			t.Errorf("the device got %d bytes", n)
		}
	}
}

func TestDomainsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	a := w.agent(testDomain, 2, prefixes("192.168.7.10/24"))
	b := w.agent(testDomain+1, 2, prefixes("192.168.7.11/24"))
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, a)
	if _, err := b.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100}); !errors.Is(err, ErrUnknownDevice) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Open(context.Background(), OpenRequest{Domain: testDomain, Device: "echo", Port: 9100}); !errors.Is(err, ErrNoMembership) {
		t.Errorf("got %v", err)
	}
	// One daemon in both domains sees each device in its own only.
	p := w.pair()
	second := w.certify(p, testDomain, 1, time.Hour)
	b.further = map[protocol.ID]*protocol.CertifiedNode{second.ID: second}
	check(t, b.AddIdentity(Identity{Key: p.Signing, Node: second, Trust: w.trust}))
	if _, err := b.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100}); !errors.Is(err, ErrNoMembership) {
		t.Errorf("two memberships, none named: %v", err)
	}
	tn, err := b.Open(context.Background(), OpenRequest{Domain: testDomain, Device: "echo", Port: 9100, Listen: freePort(t)})
	check(t, err)
	b.RemoveIdentity(protocol.NodeID(testDomain, p.Signing.Public()))
	if _, err := net.Dial("tcp", tn.Local().String()); err == nil {
		t.Error("a tunnel outlives its membership")
	}
}

func TestSilentStrangersDoNotBlock(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Limits.PerSource, c.Limits.Strangers = 8, 16 })
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	for range 40 { // each says the first byte of a flow's own connection and then nothing
		c, err := net.Dial("tcp", node.streams.LocalAddr().String())
		check(t, err)
		defer c.Close()
		_, _ = c.Write([]byte{link.PrefaceByte})
	}
	until(t, "the door is full", func() bool { return node.Stats()["bulk refused"] >= 32 })
	// The door is full: links come through the relay, which this node dials itself.
	tn := user.tunnel(t, "echo", 9100)
	if r := tn.Info().Route; r != Relayed {
		t.Errorf("%s while the door is full", r)
	}
	if got := exchange(t, dialTunnel(t, tn), []byte("hello")); string(got) != "hello" {
		t.Errorf("%q", got)
	}
}

func TestManyTunnelsLeaveNothing(t *testing.T) {
	n := 100000
	if testing.Short() {
		n = 500
	}
	w, user, node := two(t)
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100, Direct)                        // one link: no better one comes behind it
	open := link.Open{Device: d.ID, Port: 22, Protocol: protocol.TCP} // refused by the guard, and every 100th a whole connection
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	before := runtime.NumGoroutine()
	for i := range n {
		if i%100 == 0 {
			c, err := net.Dial("tcp", tn.Local().String())
			check(t, err)
			if got := exchange(t, c.(*net.TCPConn), []byte("x")); string(got) != "x" {
				t.Fatalf("%q", got)
			}
			_ = c.Close()
			continue
		}
		f, err := l.Open(open)
		check(t, err)
		if err := f.Opened(context.Background()); err == nil {
			t.Fatal("an unregistered port was opened")
		}
	}
	for end := time.Now().Add(longEnough); l.Flows() > 0 || runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			t.Fatalf("%d flows and %d more goroutines after %d tunnels", l.Flows(), runtime.NumGoroutine()-before, n)
		}
		<-time.After(time.Millisecond)
		for _, m := range []*Manager{user.Manager, node.Manager} {
			m.crew.Rest() // as each sweep does
		}
	}
}

// Nodes of one domain that name relays and never come there leave another domain's introductions their places.
func TestIntroductionsAreSharedByDomains(t *testing.T) {
	_, a, _ := two(t)
	m := a.Manager
	most, release := m.cfg.Limits.Introductions, make(chan struct{})
	stay := func(context.Context) error { <-release; return nil }
	greedy, other := testID(1), protocol.NewID(9, protocol.Hash{1})
	for range 2 * most {
		m.introduce(greedy, stay)
	}
	failed := m.counts.introductionsFailed.Load()
	ran := make(chan struct{})
	m.introduce(other, func(context.Context) error { close(ran); return nil })
	<-ran
	if want := uint64(2*most - most/2); uint64(failed) != want {
		t.Errorf("%d refused, want %d", failed, want)
	}
	close(release)
}
