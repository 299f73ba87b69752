package nat

import (
	"net/netip"
	"testing"
	"time"

	"culvert/protocol/carrier/memnet"
)

// probeKeepalive runs a whole search.
func (w *world) probeKeepalive() (time.Duration, bool) {
	w.t.Helper()
	p := NewProber(w.config().Servers, reader(w.seed))
	w.machine = p
	w.step(Event{})
	for !w.done && w.Now().Sub(start) < time.Hour && w.Step() {
	}
	if !w.done || len(w.sockets) != 1 {
		w.t.Errorf("seed %d: done %v, %d sockets are left", w.seed, w.done, len(w.sockets)-1)
	}
	return p.Interval()
}

func TestKeepalive(t *testing.T) {
	for _, c := range []struct{ timeout, least, most time.Duration }{
		{10 * time.Second, hastyKeepalive, hastyKeepalive},
		{20 * time.Second, 13 * time.Second, 18 * time.Second},
		{32 * time.Second, 27 * time.Second, 29 * time.Second},
		{65 * time.Second, 54 * time.Second, 59 * time.Second},
		{100 * time.Second, 85 * time.Second, 90 * time.Second},
		{5 * time.Minute, 108 * time.Second, 108 * time.Second},
	} {
		for _, loss := range []float64{0, 0.1} {
			for seed := range uint64(10) {
				cfg := memnet.PortRestricted()
				cfg.Timeout = c.timeout
				cfg.InboundRefresh = seed%2 == 1
				d, known := newWorld(t, seed, 3, home(cfg, loss)).probeKeepalive()
				// Losses may make a binding seem dead, never alive.
				if !known || d > c.most || loss == 0 && d < c.least {
					t.Errorf("time-out %v, loss %v, seed %d: %v %v", c.timeout, loss, seed, d, known)
				}
			}
		}
	}
}

func TestKeepaliveWithoutServers(t *testing.T) {
	for servers := range 2 {
		w := newWorld(t, 1, servers, home(memnet.PortRestricted(), 0))
		w.host.SetLink(memnet.Link{Loss: 1})
		if d, known := w.probeKeepalive(); known || d != DefaultKeepalive {
			t.Errorf("%d servers: %v %v", servers, d, known)
		}
	}
}

// A server that claims to probe and does not makes no binding seem dead where another does its work, and one that keeps the
// binding alive meanwhile is not believed.
func TestKeepaliveLiars(t *testing.T) {
	cfg := memnet.PortRestricted()
	cfg.Timeout = 5 * time.Minute
	w := newWorld(t, 1, 2, home(cfg, 0))
	w.servers[0].mute = true
	if d, known := w.probeKeepalive(); !known || d != 108*time.Second {
		t.Errorf("%v %v", d, known)
	}
	cfg.Timeout, cfg.InboundRefresh = 20*time.Second, true
	w = newWorld(t, 1, 1, home(cfg, 0))
	liar, seen := w.servers[0], make(map[netip.AddrPort]bool)
	liar.mapped = func(a netip.AddrPort) netip.AddrPort {
		if !seen[a] {
			seen[a] = true
			for s := range 24 {
				w.After(time.Duration(s)*5*time.Second, func() { liar.main.Send(a, []byte("still there?")) })
			}
		}
		return a
	}
	if d, known := w.probeKeepalive(); known || d != DefaultKeepalive {
		t.Errorf("%v %v", d, known)
	}
}

// Old Linux time-outs: 30 s for a flow that is new, 120 s for one that has been in use for a while.
func TestKeepaliveWarmsUp(t *testing.T) {
	p := NewProber([]Server{{V4: netip.MustParseAddrPort("198.51.100.1:7700")}}, reader(1))
	now := start
	p.Step(now, Event{})
	requests, first := 0, now
	answer := func(out []Action) {
		for _, a := range out {
			if a.Kind != ActionSend {
				continue
			}
			requests++
			resp, err := Responder{}.Answer(a.Data, netip.MustParseAddrPort("203.0.113.7:4000"))
			if err != nil {
				t.Fatal(err)
			}
			p.Step(now, Event{Kind: Received, Socket: a.Socket, From: a.To, Data: resp})
		}
	}
	answer(p.Step(now, Event{Kind: Opened, Socket: 1, Port: 4000}))
	for requests < warmings {
		now = p.Next()
		answer(p.Step(now, Event{}))
	}
	if used := now.Sub(first); used <= 2*time.Second || p.Next() != now.Add(firstSilence) {
		t.Errorf("in use for %v, then silent until %v", used, p.Next().Sub(now))
	}
}
