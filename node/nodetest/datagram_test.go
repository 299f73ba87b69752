package nodetest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
)

// newUDPDevice answers every datagram with the same.
func newUDPDevice(t testing.TB) (port uint16) {
	t.Helper()
	c := must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// asking is a program on UDP.
type asking struct {
	t testing.TB
	net.Conn
	asked [][]byte
}

func dialUDP(t testing.TB, at string) *asking {
	t.Helper()
	return &asking{t: t, Conn: must[net.Conn](t)(net.Dial("udp", at))}
}

// ask sends until the answer comes, as programs on UDP do; that to an earlier question may come once more before it.
func (a *asking) ask(data []byte) {
	a.t.Helper()
	a.asked = append(a.asked, data)
	b := make([]byte, 64<<10)
	eventually(a.t, fmt.Sprintf("an answer to %d bytes", len(data)), func() bool {
		a.Write(data)
		a.SetReadDeadline(time.Now().Add(2 * time.Second))
		for {
			n, err := a.Read(b)
			if err != nil || bytes.Equal(b[:n], data) {
				return err == nil
			}
			if !slices.ContainsFunc(a.asked, func(q []byte) bool { return bytes.Equal(b[:n], q) }) {
				a.t.Errorf("%d other bytes came back for %d", n, len(data))
			}
		}
	})
}

// A UDP port of a device by each route, by the client's own dialler, and after a restart; receipts at both ends.
func TestUDPPort(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	port := newUDPDevice(t)
	text := fmt.Sprintf("%d/udp", port)
	at := m.agent("workshop", "acme", func(c *config.Config) {
		c.Consent = []config.Consent{{Device: "meter", Ports: []config.Port{{Number: port, UDP: true}}}}
	})
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	must[operator.DeviceView](t)(m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{
		Name: "meter", Domain: at.member("").Domain, Node: at.member("").NodeID, Ports: []string{text},
	}))
	user.sees("meter")
	m.announced(super, at)

	for _, route := range []string{"direct", "relayed"} {
		tun := user.opens(client.OpenRequest{Device: "meter", Port: text, Route: route})
		if tun.Port != text || tun.Route != route {
			t.Fatalf("%+v", tun)
		}
		c := dialUDP(t, tun.Local)
		for _, size := range []int{0, 1, 1400, 9000} {
			c.ask(bytes.Repeat([]byte{byte(size)}, size))
		}
		c.Close()
	}
	eventually(t, "the tunnel-node counts", func() bool { // what it has sent, after it was sent
		return !slices.ContainsFunc(must[[]client.Served](t)(at.api.Served(t.Context())), func(s client.Served) bool { return s.Bytes < 18000 })
	})
	for _, l := range must[[]client.Tunnel](t)(user.api.Tunnels(t.Context())) {
		if l.End != "user" || l.Receipt.BytesIn < 9000 || l.Receipt.BytesOut < 9000 || l.Receipt.Races != 1 || l.Receipt.Connections != 1 ||
			!slices.ContainsFunc(l.Receipt.Attempts, func(a client.Attempt) bool { return a.Route == l.Route && a.Error == "" }) {
			t.Errorf("the user's receipt: %+v", l)
		}
	}
	served := must[[]client.Served](t)(at.api.Served(t.Context()))
	var routes []string
	for _, s := range served {
		routes = append(routes, s.Route)
		if s.End != "tunnel" || s.UserNode != user.member("").NodeID || s.Device != "meter" || s.Port != text || s.Bytes < 18000 ||
			(s.Relay != "") != (s.Route == "relayed") {
			t.Errorf("the tunnel-node's receipt: %+v", s)
		}
	}
	if slices.Sort(routes); !slices.Equal(routes, []string{"direct", "relayed"}) {
		t.Errorf("the tunnel-node served by %v", routes)
	}

	c := &asking{t: t, Conn: must[net.Conn](t)(user.api.DialDevice(t.Context(), "meter", text))}
	c.ask([]byte("by the client"))
	noError(t, c.Close())

	kept := user.opens(client.OpenRequest{Device: "meter", Port: text, Persist: true, Local: freeAddr(t)}) // which nobody takes meanwhile
	user.stop()
	user.start()
	var again []client.Tunnel
	eventually(t, "the lasting tunnel is back", func() bool {
		again = must[[]client.Tunnel](t)(user.api.Tunnels(t.Context()))
		return len(again) > 0
	})
	if len(again) != 1 || again[0].Local != kept.Local || again[0].Port != text {
		t.Fatalf("restored: %+v", again)
	}
	c = dialUDP(t, kept.Local)
	c.ask([]byte("after a restart"))
	c.Close()
}

// Connections are opened all the time while their relay is killed: none hangs, none brings wrong bytes, and soon they work
// again.
func TestConnectionsWhileTheRelayDies(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	supers := []*process{m.superProcess("super-1", "acme"), m.superProcess("super-2", "acme")}
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	m.announced(supers[0].agent, at)
	m.announced(supers[1].agent, at)
	tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "relayed"})

	once := func() error {
		c, err := net.DialTimeout("tcp", tun.Local, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		noError(t, c.SetDeadline(time.Now().Add(patience)))
		want := d.name + "\nhello"
		if _, err := io.WriteString(c, "hello"); err != nil {
			return err
		}
		b := make([]byte, len(want))
		if n, err := io.ReadFull(c, b); err != nil {
			if strings.HasPrefix(want, string(b[:n])) {
				return err
			}
			t.Errorf("wrong bytes: %q", b[:n])
		} else if string(b) != want {
			t.Errorf("wrong bytes: %q", b)
		}
		return nil
	}
	type outcome struct {
		opened, took time.Duration
		err          error
	}
	began := time.Now()
	results := make(chan outcome, 1000)
	running := 0
	launch := func() {
		running++
		go func() {
			opened := time.Since(began)
			err := once()
			results <- outcome{opened, time.Since(began) - opened, err}
		}()
	}
	noError(t, once())
	for _, s := range supers {
		if s.id("").String() == tun.Relay {
			s.kill()
		}
	}
	began = time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var lastBad, longest time.Duration
	good := 0
	for good < 20 || running > 0 {
		select {
		case <-tick.C:
			if good < 20 {
				launch()
			}
		case r := <-results:
			running--
			longest = max(longest, r.took)
			if r.err != nil {
				t.Logf("opened after %v, ended after %v: %v", r.opened, r.took, r.err)
				lastBad = max(lastBad, r.opened)
			} else {
				good++
			}
		}
		if time.Since(began) > 2*patience {
			t.Fatal("connections do not work again")
		}
	}
	t.Logf("the last connection that failed was opened %v after the kill; none took longer than %v", lastBad, longest)
}
