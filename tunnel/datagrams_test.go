package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// dialUDP leads a made-up address to the real socket behind it.
func (w *world) dialUDP(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	addr, ok := w.real[a]
	w.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: errors.New("no route to host")}
	}
	var d net.Dialer
	return d.DialContext(ctx, "udp", addr)
}

// udpDevice registers a device that answers every datagram with what reply makes of it.
func (w *world) udpDevice(name, addr string, reply func([]byte) []byte, agents ...*agent) (Device, *net.UDPConn) {
	d := w.device(name, addr, 2, nil, agents...)
	w.change(d, func(v *protocol.EndDeviceValue) { v.Ports[0].Protocol = protocol.UDP })
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(w.t, err)
	w.mu.Lock()
	w.real[netip.MustParseAddrPort(addr)] = c.LocalAddr().String()
	w.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(reply(b[:n]), from)
		}
	})
	w.t.Cleanup(func() { _ = c.Close(); wg.Wait() })
	return w.devices[d.ID], c
}

func same(b []byte) []byte { return b }

func (a *agent) udpTunnel(t testing.TB, device string, routes ...Route) *Tunnel {
	t.Helper()
	return a.mustOpen(t, OpenRequest{Device: device, Port: 161, Protocol: protocol.UDP, Routes: routes})
}

func dialUDPTunnel(t testing.TB, tn *Tunnel) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(tn.Local()))
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askUDP sends a datagram until it comes back, as programs on UDP do. An answer to an earlier one, sent again, may come before.
func askUDP(t testing.TB, c *net.UDPConn, data []byte) {
	t.Helper()
	b := make([]byte, 64<<10)
	for end := time.Now().Add(longEnough); time.Now().Before(end); {
		_, _ = c.Write(data)
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.Read(b)
			if err != nil {
				break
			}
			if bytes.Equal(b[:n], data) {
				return
			}
		}
	}
	t.Fatalf("%d bytes do not come back", len(data))
}

func TestDatagramsByEveryRoute(t *testing.T) {
	w, user, node := two(t)
	near := w.agent(testDomain, 2, prefixes("192.168.7.11/24"), func(_ *agent, _ *Config, id *Identity) { id.Serve = false })
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	for _, c := range []struct {
		from *agent
		want Route
	}{{user, Direct}, {user, Relayed}, {near, LAN}, {node, LAN}} {
		tn := c.from.udpTunnel(t, "snmp", c.want)
		if i := tn.Info(); i.Route != c.want || i.Protocol != protocol.UDP || !i.Local.Addr().IsLoopback() {
			t.Fatalf("%+v", i)
		}
		conn := dialUDPTunnel(t, tn)
		for _, size := range []int{0, 1, 484, 9000, link.MaxDatagram} {
			askUDP(t, conn, noise(size))
		}
		_, _ = conn.Write(make([]byte, link.MaxDatagram+1))
		askUDP(t, conn, []byte("small"))
		if i := tn.Info(); i.Receipt.Sent < 9000 || i.Receipt.Received < 9000 || i.Receipt.Dropped == 0 || i.Open != 1 {
			t.Errorf("%s: %+v", c.want, i)
		}
	}
	s := node.Served()
	if len(s) == 0 || s[0].Protocol != protocol.UDP || s[0].Open == 0 || s[0].Bytes == 0 {
		t.Errorf("served: %+v", s)
	}
}

func TestEverySourceHasItsOwnFlow(t *testing.T) {
	// The tunnel-node has room for more: the flow by which a race asks for the device keeps its place until its end is known there.
	w, user, node := two(t, func(a *agent, c *Config, _ *Identity) {
		if a.place == (protocol.Hash{1}) {
			c.Limits.Sources = 20
		}
	})
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	tn := user.udpTunnel(t, "snmp")
	var wg sync.WaitGroup
	for i := range 20 {
		c := dialUDPTunnel(t, tn)
		wg.Go(func() {
			for j := range 20 {
				askUDP(t, c, fmt.Appendf(nil, "%d asks %d", i, j))
			}
		})
	}
	wg.Wait()
	if i := tn.Info(); i.Open != 20 || i.Receipt.Conns != 20 {
		t.Errorf("%+v", i)
	}
	surplus := dialUDPTunnel(t, tn)
	_, _ = surplus.Write([]byte("one too many"))
	until(t, "it is dropped", func() bool { return tn.Info().Receipt.Dropped > 0 })
	tn.Close()
	until(t, "no flow is left", func() bool { return node.open() == 0 })
}

func TestIdleSourcesEnd(t *testing.T) {
	for _, idle := range []string{"user", "tunnel-node"} {
		n := 0
		w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
			if (n == 0) == (idle == "user") {
				c.IdleDatagram = 100 * time.Millisecond
			}
			n++
		})
		w.udpDevice("snmp", "192.168.7.50:161", same, node)
		tn := user.udpTunnel(t, "snmp")
		c := dialUDPTunnel(t, tn)
		askUDP(t, c, []byte("x"))
		until(t, "both ends are done", func() bool { return tn.Info().Open == 0 && node.open() == 0 })
		for _, s := range node.Served() {
			if s.Failed != 0 || tn.Info().Error != "" {
				t.Errorf("%s: it did not end in order: %+v, %s", idle, s, tn.Info().Error)
			}
		}
		askUDP(t, c, []byte("again"))
	}
}

func TestDatagramsRefused(t *testing.T) {
	w, user, node := two(t)
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	w.mu.Lock()
	w.real[netip.MustParseAddrPort("192.168.7.50:161")] = freePort(t).String() // nobody listens there
	w.mu.Unlock()
	for from, route := range map[*agent]Route{user: Direct, node: LAN} { // through a link, and where this node reaches the device itself
		tn := from.udpTunnel(t, "snmp", route)
		c := dialUDPTunnel(t, tn)
		until(t, "the refusal", func() bool {
			_, _ = c.Write([]byte("anybody?"))
			return tn.Info().Error == ErrDeviceRefused.Error()
		})
	}
	until(t, "the receipt says so", func() bool {
		s := node.Served()
		return len(s) == 1 && s[0].Failed > 0 && s[0].Error == ErrDeviceRefused.Error()
	})
}

func TestDatagramsAreGuarded(t *testing.T) {
	w, user, node := two(t)
	d, _ := w.udpDevice("snmp", "192.168.7.50:161", same, node)
	open := func() error {
		tn, err := user.Open(context.Background(), OpenRequest{Device: "snmp", Port: 161, Protocol: protocol.UDP})
		if err == nil {
			tn.Close()
		}
		return err
	}
	refused := func(what string, reason link.Reason) {
		t.Helper()
		err := open()
		var n *NotAllowedError
		if !errors.As(err, &n) || n.Reason != reason {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, open())
	w.change(d, func(v *protocol.EndDeviceValue) { v.TLSPin = make([]byte, 32) })
	refused("a pinned device cannot prove its key by datagrams", link.ReasonConsent)
	check(t, node.AddIdentity(Identity{Key: node.pair.Signing, Node: node.node, Trust: w.trust, Serve: true, Consent: []Consent{
		{Device: "snmp", Ports: []protocol.Port{{Number: 161, Protocol: protocol.UDP}}}}}))
	check(t, open())
	w.change(d, func(v *protocol.EndDeviceValue) { v.TLSPin = nil })
	check(t, node.AddIdentity(Identity{Key: node.pair.Signing, Node: node.node, Trust: w.trust, Serve: true, Consent: []Consent{
		{Device: "snmp", Ports: []protocol.Port{{Number: 161, Protocol: protocol.TCP}}}}}))
	refused("consent to TCP is none to UDP", link.ReasonConsent)
	check(t, node.AddIdentity(Identity{Key: node.pair.Signing, Node: node.node, Trust: w.trust, Serve: true}))
	w.mu.Lock()
	node.macs[[6]byte(d.Value.MAC)] = netip.MustParseAddr("192.168.7.255")
	w.mu.Unlock()
	refused("broadcast", link.ReasonTarget)
	w.change(d, func(v *protocol.EndDeviceValue) { v.Allow = []string{"admins"} })
	refused("another group", link.ReasonGroup)
}

// A route that dies costs datagrams, not the source: its next one goes by another.
func TestDatagramsFailOver(t *testing.T) {
	w, user, node := two(t)
	node.isolated = true
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	tn := user.udpTunnel(t, "snmp")
	c := dialUDPTunnel(t, tn)
	askUDP(t, c, []byte("before"))
	used := tn.Info().Relay
	for _, r := range w.relays {
		if r.peer.ID == used {
			r.kill()
		}
	}
	askUDP(t, c, []byte("after"))
	if tn.Info().Relay == used {
		t.Error("still on the dead relay")
	}
}

func TestRestoredForwardOfDatagrams(t *testing.T) {
	w, user, node := two(t)
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	tn, err := user.Open(context.Background(), OpenRequest{Device: "snmp", Port: 161, Protocol: protocol.UDP, Persist: true, Listen: freePort(t)})
	check(t, err)
	kept := user.Forwards()
	tn.Close()
	if f := user.Restore(kept); len(f) != 0 || len(kept) != 1 || kept[0].Protocol != protocol.UDP {
		t.Fatal(f, kept)
	}
	again, err := user.Tunnel(tn.ID())
	check(t, err)
	if again.Local() != tn.Local() && again.Local() != kept[0].Listen {
		t.Errorf("at %s", again.Local())
	}
	askUDP(t, dialUDPTunnel(t, again), []byte("x"))
}

// A user-node that keeps to no bound of its own is held to the tunnel-node's.
func TestFlowsOfDatagramsAreBoundedAtBothEnds(t *testing.T) {
	n := 0
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) {
		if n++; n == 2 {
			c.Limits.Sources = 2
		}
	})
	d, _ := w.udpDevice("snmp", "192.168.7.50:161", same, node)
	tn := user.udpTunnel(t, "snmp")
	until(t, "the probe has left", func() bool { return node.open() == 0 })
	tn.mu.Lock()
	l := tn.path.link
	tn.mu.Unlock()
	open := func() error {
		f, err := l.Open(link.Open{Device: d.ID, Port: 161, Protocol: protocol.UDP})
		check(t, err)
		return f.Opened(context.Background())
	}
	check(t, open())
	check(t, open())
	var refused *link.RefusedError
	if err := open(); !errors.As(err, &refused) || refused.Reason != link.ReasonLimit {
		t.Errorf("the third: %v", err)
	}
}

// A peer that tells news without end starts no look beyond the first few.
func TestNewsWithoutEnd(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Retry = time.Hour })
	node.isolated = true
	w.udpDevice("snmp", "192.168.7.50:161", same, node)
	tn := user.udpTunnel(t, "snmp")
	until(t, "the race is over", func() bool { tn.mu.Lock(); defer tn.mu.Unlock(); return tn.looking == 0 })
	before := user.Stats()["races"]
	began := time.Now()
	for range 20000 {
		node.mu.Lock()
		for l := range node.links {
			node.mu.Unlock()
			l.Tell()
			node.mu.Lock()
			break
		}
		node.mu.Unlock()
	}
	askUDP(t, dialUDPTunnel(t, tn), []byte("behind the news"))
	until(t, "a look", func() bool { return user.Stats()["races"] > before })
	looks := user.Stats()["races"] - before
	if most := 2*uint64(time.Since(began)/newsEvery) + 4; looks > most {
		t.Errorf("%d looks, at most %d are due", looks, most)
	}
}
