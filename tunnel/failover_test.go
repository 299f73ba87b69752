package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

func TestRelayKilled(t *testing.T) {
	// Whoever waited for a time limit would wait for longer than this test may take.
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
		c.OpenTimeout, c.Retry = time.Hour, time.Hour
		c.Timing = link.Timing{Suspect: time.Hour, Answer: time.Hour}
	})
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	before := tn.Info()
	if before.Route != Relayed {
		t.Fatalf("%+v", before)
	}
	running := dialTunnel(t, tn)
	_, _ = running.Write([]byte("x"))
	_, _ = io.ReadFull(running, make([]byte, 1))
	for _, r := range w.relays {
		if r.peer.ID == before.Relay {
			r.kill()
		}
	}
	if _, err := io.ReadAll(running); err == nil {
		t.Error("a connection on the dead relay ended in order")
	}
	if got := exchange(t, dialTunnel(t, tn), []byte("again")); string(got) != "again" {
		t.Errorf("got %q", got)
	}
	if after := tn.Info(); after.Relay == before.Relay || after.Receipt.Races != 2 {
		t.Errorf("%+v", after)
	}
}

func TestRelayFallsSilent(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
		c.Timing = link.Timing{Ask: 20 * time.Millisecond, Suspect: 2 * time.Second, Answer: 2 * time.Second}
	})
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	used := tn.Info().Relay
	for _, r := range w.relays {
		if r.peer.ID == used {
			r.mu.Lock()
			r.frozen = make(chan struct{})
			r.mu.Unlock()
			t.Cleanup(func() { close(r.frozen) })
		}
	}
	// Its bytes may be with the device or not: it ends with an error, and is not said twice.
	c := dialTunnel(t, tn)
	_, _ = c.Write([]byte("into the void"))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a connection on a silent relay ended in order")
	}
	until(t, "another relay carries", func() bool { // it may count as silent too on a busy machine, for a while
		got, err := tryExchange(tn, []byte("again"))
		return err == nil && string(got) == "again"
	})
	if tn.Info().Relay == used {
		t.Error("still on the silent relay")
	}
}

// A relay that has fallen silent is not given up for dead yet, but new tunnels and new connections go by the other.
func TestSuspectRelayIsPassedBy(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
		c.Timing = link.Timing{Ask: 20 * time.Millisecond, Suspect: 2 * time.Second, Answer: time.Hour}
		c.OpenTimeout = time.Hour // who waited for the silent one would not be done before
	})
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	old := user.tunnel(t, "echo", 9100)
	used := old.Info().Relay
	for _, r := range w.relays {
		if r.peer.ID == used {
			r.mu.Lock()
			r.frozen = make(chan struct{})
			r.mu.Unlock()
			t.Cleanup(func() { close(r.frozen) })
		}
	}
	fresh := user.tunnel(t, "echo", 9100)
	if fresh.Info().Relay == used {
		t.Error("on the silent relay")
	}
	for _, tn := range []*Tunnel{fresh, old} {
		until(t, "the other relay carries", func() bool { // it may be suspect too on a busy machine, for a while
			got, err := tryExchange(tn, []byte("again"))
			return err == nil && string(got) == "again"
		})
	}
}

func TestDeviceErrors(t *testing.T) {
	w, user, node := two(t)
	w.device("mute", "192.168.7.50:9100", 2, nil, node)
	node.dialer.dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	if _, err := user.Open(context.Background(), OpenRequest{Device: "mute", Port: 9100}); !errors.Is(err, ErrDeviceTimeout) {
		t.Errorf("got %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if node.doubts == 0 {
		t.Error("the address of a mute device is not doubted")
	}
}

func TestBetterRouteIsTaken(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Retry = 20 * time.Millisecond })
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	if r := tn.Info().Route; r != Relayed {
		t.Fatal(r)
	}
	old := dialTunnel(t, tn)
	w.mu.Lock()
	node.isolated = false
	w.mu.Unlock()
	until(t, "the direct route", func() bool { return tn.Info().Route == Direct })
	for _, c := range []*net.TCPConn{old, dialTunnel(t, tn)} {
		if got := exchange(t, c, []byte("hello")); string(got) != "hello" {
			t.Errorf("got %q", got)
		}
	}
}

func TestRelaySeesCiphertextOnly(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	var seen []byte
	w.capture = func(b []byte) { // no more than that: the relay does not go on meanwhile
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, b...)
	}
	user := w.agent(testDomain, 1, prefixes("192.168.1.20/24"))
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24"))
	w.relayNode("198.51.100.1:7700")
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	data := noise(3 << 20)
	if got := exchange(t, dialTunnel(t, user.tunnel(t, "echo", 9100, Relayed)), data); !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}
	if n := node.Stats()["links taken"]; n != 1 {
		t.Errorf("%d links", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) < 2*len(data) {
		t.Fatalf("the relay saw %d bytes, the payload has %d each way", len(seen), len(data))
	}
	pieces := make(map[[16]byte]bool, len(data)/16)
	for i := 0; i+16 <= len(data); i += 16 {
		pieces[[16]byte(data[i:])] = true
	}
	for i := 0; i+16 <= len(seen); i++ {
		if pieces[[16]byte(seen[i:])] {
			t.Fatal("a piece of the payload passed the relay in clear")
		}
	}
}

func TestRevocationClosesBothEnds(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100, Direct) // one link
	c := dialTunnel(t, tn)
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadFull(c, make([]byte, 1))
	if n := node.CloseWhere(func(id protocol.ID) bool { return id == user.node.ID }); n != 1 {
		t.Errorf("%d links closed", n)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a revoked node's connection ended in order")
	}
	w.mu.Lock()
	w.revoked[user.node.ID] = true // not before: the sweep of either end would close the link too
	w.mu.Unlock()
	if endsInOrder(tn) {
		t.Error("a revoked node opened a connection")
	}
	if _, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100}); !errors.Is(err, ErrRevoked) {
		t.Errorf("open: %v", err)
	}
}

func TestExpiryClosesUnlessRenewed(t *testing.T) {
	var mu sync.Mutex
	shift := time.Duration(0)
	clock := func(_ *agent, c *Config, _ *Identity) {
		c.Retry = 40 * time.Millisecond // the sweep runs in step with it
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(shift) }
	}
	w, user, node := two(t, clock)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	renewed := w.certify(user.pair, testDomain, 2, 2*time.Hour, "office")
	check(t, user.AddIdentity(Identity{Key: user.pair.Signing, Node: renewed, Trust: w.trust, Serve: true}))
	node2 := w.certify(node.pair, testDomain, 2, 30*time.Minute, "office")
	check(t, node.AddIdentity(Identity{Key: node.pair.Signing, Node: node2, Trust: w.trust, Serve: true}))
	if got := exchange(t, dialTunnel(t, tn), []byte("renewed")); string(got) != "renewed" {
		t.Errorf("got %q", got)
	}
	mu.Lock()
	shift = 40 * time.Minute // past the tunnel-node's certificate, not the operator's nor the user's
	mu.Unlock()
	until(t, "no link outlives its certificate", func() bool { return user.Stats()["links now"] == 0 })
}

func TestUnusedLinksClose(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.IdleLink = 300 * time.Millisecond })
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	user.persistentTunnel(t, "echo", 9100).Close()
	until(t, "no link stays that nobody uses", func() bool { return user.Stats()["links now"]+node.Stats()["links now"] == 0 })
}

func TestRestore(t *testing.T) {
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Persist: true, Caller: "test", Listen: freePort(t)})
	check(t, err)
	kept := user.Forwards()
	if len(kept) != 1 || kept[0].ID != tn.ID() || kept[0].Listen != tn.Local() {
		t.Fatalf("%+v", kept)
	}
	tn.Close()
	if f := user.Restore(kept); len(f) != 0 {
		t.Fatal(f)
	}
	again, err := user.Tunnel(tn.ID())
	check(t, err)
	if again.Local() != kept[0].Listen {
		t.Errorf("restored at %s, was %s", again.Local(), kept[0].Listen)
	}
	if got := exchange(t, dialTunnel(t, again), []byte("hello")); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	if f := user.Restore(kept); f[tn.ID()] == nil {
		t.Error("the same forward twice")
	}
}

func TestIdleConnectionsAreReset(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
		c.IdleFlow, c.Retry = 300*time.Millisecond, 40*time.Millisecond // the sweep runs in step with Retry
	})
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	c := dialTunnel(t, user.persistentTunnel(t, "echo", 9100))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("an idle connection ended in order")
	}
}

func TestLimitsOfPeerAndDomain(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Limits.PeerFlows = 1 })
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	until(t, "the probe has left its place", func() bool { return node.open() == 0 })
	held := dialTunnel(t, tn)
	_, _ = held.Write([]byte("x"))
	if _, err := io.ReadFull(held, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	f, err := l.Open(link.Open{Device: d.ID, Port: 9100, Protocol: protocol.TCP})
	check(t, err)
	var refused *link.RefusedError
	if err := f.Opened(context.Background()); !errors.As(err, &refused) || refused.Reason != link.ReasonLimit {
		t.Errorf("got %v", err)
	}
}
