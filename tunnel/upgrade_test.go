package tunnel

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// until waits for what others do.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(longEnough); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// hold lets dials to addrs wait until the returned function is called.
func (w *world) hold(addrs ...string) (release func()) {
	ch := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		w.held = map[netip.AddrPort]chan struct{}{}
	}
	for _, a := range addrs {
		w.held[netip.MustParseAddrPort(a)] = ch
	}
	return func() { close(ch) }
}

func TestRelayCarriesTheFirstBytesAndTheBetterRouteTheNext(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	release := w.hold("203.0.113.5:7700")
	tn := user.tunnel(t, "echo", 9100)
	other := user.tunnel(t, "echo", 9100)
	forced := user.tunnel(t, "echo", 9100, Relayed)
	for _, o := range []*Tunnel{tn, other, forced} {
		if r := o.Info().Route; r != Relayed {
			t.Fatal(r)
		}
	}
	first := dialTunnel(t, tn)
	_, _ = first.Write([]byte("x"))
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	release()
	until(t, "both take the better route", func() bool { return tn.Info().Route == Direct && other.Info().Route == Direct })
	if r := forced.Info().Route; r != Relayed {
		t.Errorf("a tunnel that may only be relayed is %s", r)
	}
	for _, c := range []*net.TCPConn{first, dialTunnel(t, tn), dialTunnel(t, other), dialTunnel(t, forced)} {
		if got := exchange(t, c, []byte("hello")); string(got) != "hello" {
			t.Errorf("got %q", got)
		}
	}
	i := tn.Info()
	if i.Receipt.Races != 1 || !slices.ContainsFunc(i.Receipt.Attempts, func(a Attempt) bool { return a.Route == Direct && a.Error == "" }) {
		t.Errorf("receipt: %+v", i.Receipt)
	}
	if a := other.Info().Receipt.Attempts; !a[len(a)-1].Shared {
		t.Errorf("the other's receipt: %+v", a)
	}
}

// Whoever wins, and whatever comes up behind, the device is asked once: many printers serve one connection at a time.
func TestRaceAsksTheDeviceOnce(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	for i := range 5 {
		tn := user.tunnel(t, "echo", 9100)
		until(t, "the direct route", func() bool { return tn.Info().Route == Direct })
		tn.Close()
		until(t, "no link is left", func() bool { // also none that was in the making
			user.closeLinks(link.ReasonClosing, func(*entry) bool { return true })
			return user.Stats()["links now"] == 0
		})
		w.mu.Lock()
		asked := w.dials[benchDevice()]
		w.mu.Unlock()
		if asked != i+1 {
			t.Fatalf("asked %d times in %d races", asked, i+1)
		}
	}
}

// A path that dies is replaced by another living link to the same node at once, and the better one is looked for.
func TestDetourByALivingLink(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	w.device("other", "192.168.7.51:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	until(t, "direct", func() bool { return tn.Info().Route == Direct })
	user.tunnel(t, "other", 9100, Relayed) // keeps a relayed link
	release := w.hold("203.0.113.5:7700")
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	l.Fail(link.ErrDead)
	if got := exchange(t, dialTunnel(t, tn), []byte("again")); string(got) != "again" {
		t.Errorf("got %q", got)
	}
	i := tn.Info()
	if a := i.Receipt.Attempts; i.Route != Relayed || !a[len(a)-1].Shared || i.Receipt.Races != 1 {
		t.Errorf("%+v", i)
	}
	release()
	until(t, "direct again", func() bool { return tn.Info().Route == Direct })
}

// The tunnel-node tells over its links that it may be reached better, and its users look at once.
func TestNewsOfABetterRoute(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Retry = time.Hour })
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	until(t, "the race is over", func() bool { tn.mu.Lock(); defer tn.mu.Unlock(); return tn.looking == 0 })
	w.mu.Lock()
	node.isolated = false
	w.mu.Unlock()
	node.Announced(testDomain)
	until(t, "direct", func() bool { return tn.Info().Route == Direct })
	if n := user.Stats()["better routes"]; n != 1 {
		t.Errorf("%d times better", n)
	}
}

// A use of a worse route starts a look, though the next one by itself is far.
func TestUseStartsALook(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Retry = time.Hour })
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	w.mu.Lock()
	node.isolated = false
	w.mu.Unlock()
	until(t, "direct", func() bool {
		if got := exchange(t, dialTunnel(t, tn), []byte("x")); string(got) != "x" {
			t.Errorf("got %q", got)
		}
		return tn.Info().Route == Direct
	})
}

// The laptop leaves its network: links from there end at once, those that may live are asked, and a way is found again.
func TestNetworkChanged(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100, Relayed)
	exchange(t, dialTunnel(t, tn), []byte("x"))
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	user.NetworkChanged()
	if l.Err() != nil {
		t.Error("a link on loopback ended")
	}
	own := prefixes("192.168.1.20/24")
	for addr, want := range map[string]bool{"192.168.1.20": false, "192.168.1.21": true, "127.0.0.1": false, "0.0.0.0": false} {
		if got := gone(netip.MustParseAddr(addr), own); got != want {
			t.Errorf("%s is gone: %t", addr, got)
		}
	}
	if gone(netip.Addr{}, own) || gone(netip.MustParseAddr("192.168.1.21"), nil) {
		t.Error("an address is gone of which nothing is known")
	}
	l.Fail(errMoved)
	user.NetworkChanged()
	until(t, "a way is found though nobody asks for one", func() bool { return tn.Info().Route == Relayed })
}

// A device that this node reached itself is left at once where the node is no longer beside it.
func TestLeavingTheDevicesNetwork(t *testing.T) {
	w, _, node := two(t)
	user := w.agent(testDomain, 2, prefixes("192.168.7.30/24"))
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, user, node)
	release := w.hold("192.168.7.10:7700", "203.0.113.5:7700", "198.51.100.1:7700", "198.51.100.2:7700") // this node itself is to be the first
	tn := user.tunnel(t, "echo", 9100)
	release()
	if i := tn.Info(); i.Route != LAN || i.TunnelNode != user.node.ID {
		t.Fatalf("%+v", i)
	}
	user.moveTo(1)
	user.NetworkChanged()
	if got := exchange(t, dialTunnel(t, tn), []byte("hello")); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	if i := tn.Info(); i.TunnelNode != node.node.ID {
		t.Errorf("%+v", i)
	}
}

// While the mesh does not answer, a tunnel that lost its way goes by what it remembers.
func TestFailoverWithoutTheMesh(t *testing.T) {
	w, user, node := two(t)
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	stuck := make(chan struct{})
	w.mu.Lock()
	user.stuck = stuck
	w.mu.Unlock()
	used := tn.Info().Relay
	for _, r := range w.relays {
		if r.peer.ID == used {
			r.kill()
		}
	}
	until(t, "the way is lost", func() bool { return tn.Info().Route == "" })
	if got := exchange(t, dialTunnel(t, tn), []byte("again")); string(got) != "again" {
		t.Errorf("got %q", got)
	}
	close(stuck)
}

func TestSearch(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSearch(now, 5*time.Second)
	var looks []time.Duration
	for at := now; at.Sub(now) < time.Hour; at = at.Add(time.Second) {
		if s.due(at, false) {
			looks = append(looks, at.Sub(now)/time.Second)
		}
	}
	if want := []time.Duration{5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035}; !slices.Equal(looks, want) {
		t.Errorf("by itself after %v s", looks)
	}
	s = newSearch(now, 5*time.Second)
	if s.due(now.Add(time.Second), true) || !s.due(now.Add(2*time.Second), true) || s.due(now.Add(5*time.Second), true) ||
		!s.due(now.Add(6*time.Second), true) {
		t.Error("used: not after 2 s and 4 s more")
	}
	later := now.Add(time.Minute)
	if !s.news(later) || !s.due(later, false) || s.due(later, true) || !s.due(later.Add(newsAfter), false) {
		t.Error("news: not at once and soon again")
	}
	if s.news(later.Add(newsEvery/2)) || !s.news(later.Add(newsEvery)) {
		t.Error("news count too often or too rarely")
	}
}

// A tunnel-node whose link died stays in contact for the next one, one whose link was ended does not.
func TestBusy(t *testing.T) {
	lost := make(chan protocol.Domain, 16) // who tells does not wait
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Lost = func(d protocol.Domain) { lost <- d } })
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	if node.Busy(testDomain) || user.Busy(testDomain) {
		t.Error("busy with nothing")
	}
	tn := user.tunnel(t, "echo", 9100, Direct)
	if !node.Busy(testDomain) || !user.Busy(testDomain) || node.Busy(testDomain+1) {
		t.Error("not busy with a link")
	}
	tn.Close()
	user.closeLinks(link.ReasonClosing, func(*entry) bool { return true })
	until(t, "nobody is busy", func() bool { return !node.Busy(testDomain) && !user.Busy(testDomain) })
	tn = user.tunnel(t, "echo", 9100, Direct)
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	l.Fail(link.ErrDead)
	if d := <-lost; d != testDomain {
		t.Errorf("lost in %s", d)
	}
	<-lost // the other end
	if !node.Busy(testDomain) {
		t.Error("the node of a dead link is idle")
	}
}
