package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world drives a machine by hand.
type world struct {
	t   testing.TB
	m   machine
	now time.Time
	out []action
}

func newWorld(t testing.TB, gws ...Gateway) *world {
	w := &world{t: t, m: machine{port: testPort}, now: time.Unix(1e9, 0)}
	w.step(evGateways{gws})
	return w
}

func (w *world) step(ev any) { w.out = append(w.out, w.m.step(w.now, ev)...) }

// tick lets time pass until something is due, and says how long that was.
func (w *world) tick() time.Duration {
	w.t.Helper()
	next := w.m.next()
	if next.IsZero() {
		w.t.Fatal("nothing is due")
	}
	d := max(next.Sub(w.now), 0)
	w.now = w.now.Add(d)
	w.step(evTick{})
	return d
}

// take removes the next action, which must be of this kind.
func (w *world) take(d doing) action {
	w.t.Helper()
	if len(w.out) == 0 || w.out[0].do != d {
		w.t.Fatalf("wanted %d, have %+v", d, w.out)
	}
	a := w.out[0]
	w.out = w.out[1:]
	return a
}

func (w *world) idle() {
	w.t.Helper()
	if len(w.out) != 0 {
		w.t.Fatalf("unasked: %+v", w.out)
	}
}

var (
	siteGW  = Gateway{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.30"), "eth0"}
	granted = grant{by: ByPCP, external: public, tcp: 7700, udp: 7700, lease: time.Hour}
)

// serving brings the first protocol, PCP, to where its mapping is handed out; the others are absent.
func serving(t *testing.T) (w *world, id int) {
	w = newWorld(t, siteGW)
	id = w.take(doProbe).id
	pmp, upnp := w.take(doProbe).id, w.take(doProbe).id
	w.step(evProbed{id: pmp, err: errSilent})
	w.step(evProbed{id: upnp, err: errSilent})
	w.step(evProbed{id: id, by: ByPCP})
	w.take(doOpen)
	w.step(evOpened{id, granted, nil})
	v := w.take(doVerify)
	if len(w.m.proved()) != 0 {
		t.Error("handed out before it is verified")
	}
	w.step(evVerified{id, v.mapping.External, nil})
	if len(w.m.proved()) != 2 {
		t.Error("not handed out")
	}
	w.idle()
	return w, id
}

func TestChecksAndRenewals(t *testing.T) {
	w, id := serving(t)
	began := w.now
	for w.now.Before(began.Add(29 * time.Minute)) {
		if d := w.tick(); d != checkEvery {
			t.Fatalf("looked after %s", d)
		}
		w.take(doCheck)
		w.step(evChecked{id, pulse{external: public}, nil})
		w.idle()
	}
	w.tick()
	if a := w.take(doOpen); w.now.Sub(began) != 30*time.Minute || a.grant != granted {
		t.Errorf("renewed after %s: %+v", w.now.Sub(began), a.grant)
	}
	w.step(evOpened{id, granted, nil})
	v := w.take(doVerify)
	if len(w.m.proved()) != 2 {
		t.Error("withdrawn while it is verified anew")
	}
	w.step(evVerified{id, v.mapping.External, nil})
}

func TestForgottenAndMoved(t *testing.T) {
	w, id := serving(t)
	w.tick()
	w.take(doCheck)
	w.step(evChecked{id, pulse{lost: true}, nil})
	w.take(doOpen)
	moved := granted
	moved.external = netip.MustParseAddr("198.51.100.9")
	w.step(evOpened{id, moved, nil})
	if len(w.m.proved()) != 0 {
		t.Error("another address is handed out before it is verified")
	}
	v := w.take(doVerify)
	w.step(evVerified{id, granted.first(), nil}) // of before
	if len(w.m.proved()) != 0 {
		t.Error("proved by what was before")
	}
	w.take(doVerify)
	w.step(evVerified{id, v.mapping.External, nil})
	if l := w.m.proved(); len(l) != 2 || l[0].External.Addr() != moved.external {
		t.Errorf("%+v", l)
	}
}

func TestSilentRouter(t *testing.T) {
	w, id := serving(t)
	w.tick()
	for i := range missesMax {
		w.take(doCheck)
		if len(w.m.proved()) != 2 {
			t.Errorf("withdrawn after %d misses", i)
		}
		w.step(evChecked{id, pulse{}, errSilent})
		if i < missesMax-1 {
			w.idle()
			w.tick()
		}
	}
	if len(w.m.proved()) != 0 {
		t.Error("still handed out")
	}
	w.take(doProbe) // the others at once
	w.take(doProbe)
	if d := w.tick(); d != firstRetry {
		t.Errorf("it is asked again after %s", d)
	}
	w.take(doProbe)
}

// What is asked again at nearly the same time is asked at once.
func TestTogether(t *testing.T) {
	w := newWorld(t, siteGW)
	for i := range 3 {
		id := w.take(doProbe).id
		if i == 2 {
			w.now = w.now.Add(together)
		}
		w.step(evProbed{id: id, err: errSilent})
	}
	w.tick()
	for range 3 {
		w.take(doProbe)
	}
	w.idle()
}

func TestBackOff(t *testing.T) {
	w := newWorld(t, siteGW)
	var ids []int
	for range 3 {
		ids = append(ids, w.take(doProbe).id)
	}
	want := firstRetry
	for range 10 {
		for _, id := range ids {
			w.step(evProbed{id: id, err: errSilent})
		}
		w.idle()
		if d := w.tick(); d != want {
			t.Fatalf("after %s, want %s", d, want)
		}
		want = min(2*want, lastRetry)
		for range 3 {
			w.take(doProbe)
		}
	}
	for _, id := range ids {
		w.step(evProbed{id: id, err: errSilent})
	}
	w.now = w.now.Add(3 * time.Second)
	w.step(evRecheck{})
	for range 3 {
		w.take(doProbe) // on demand: now
	}
}

// TestAnnouncements: what a gateway says has it asked, no more often than is good for it.
func TestAnnouncements(t *testing.T) {
	w, id := serving(t)
	w.step(evAnnounced{siteGW.Addr})
	w.step(evAnnounced{netip.MustParseAddr("192.168.1.66")})
	w.idle()
	if d := w.tick(); d != recheckEvery {
		t.Errorf("after %s", d)
	}
	w.take(doCheck)
	w.step(evChecked{id, pulse{external: public}, nil})
	w.now = w.now.Add(10 * time.Second)
	w.step(evAnnounced{siteGW.Addr})
	w.take(doCheck)
	for range 100 {
		w.step(evAnnounced{siteGW.Addr})
	}
	w.idle()
	w.step(evChecked{id, pulse{external: public}, nil})
	w.idle()
}

func TestGatewayGoes(t *testing.T) {
	w, id := serving(t)
	other := siteGW
	other.Local = netip.MustParseAddr("192.168.1.31")
	w.step(evGateways{[]Gateway{other}})
	if len(w.m.proved()) != 0 {
		t.Error("still handed out")
	}
	if a := w.take(doRelease); a.id != id || a.grant != granted || a.gw != siteGW {
		t.Errorf("%+v", a)
	}
	w.take(doForget)
	w.take(doForget)
	for range 3 {
		w.take(doProbe)
	}
	w.step(evReleased{id})
	w.take(doForget)
}

// TestAnyOrder: whatever happens in whatever order, a client is asked for one thing at a time, one protocol of a gateway holds
// a grant at a time, nothing is handed out unproved, and after Close every grant has been released.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type running struct{ action }
		m, now := machine{port: testPort}, time.Unix(1e9, 0)
		var busy []running
		held := make(map[int]Gateway)
		gws := []Gateway{siteGW, {netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2a0e:4d77::30"), "eth0"}}
		step := func(ev any) {
			for _, a := range m.step(now, ev) {
				switch a.do {
				case doForget:
					if _, ok := held[a.id]; ok {
						t.Fatal("forgotten with a grant")
					}
					continue
				case doOpen:
					for id, gw := range held {
						if gw == a.gw && id != a.id {
							t.Fatal("two protocols hold")
						}
					}
				}
				if a.do != doVerify && slices.ContainsFunc(busy, func(r running) bool { return r.id == a.id && r.do != doVerify }) {
					t.Fatalf("asked twice: %+v", a)
				}
				busy = append(busy, running{a})
			}
			if len(busy) > 32 {
				t.Fatal("too much at once")
			}
		}
		finish := func(k int) {
			a := busy[k]
			busy = slices.Delete(busy, k, k+1)
			fails := []error{nil, nil, nil, errSilent, &refusedError{1, "x"}, errConflict, errUnusable}
			err := rapid.SampledFrom(fails).Draw(t, "err")
			switch a.do {
			case doProbe:
				ev := evProbed{id: a.id, err: err}
				if err == nil {
					ev.external = rapid.SampledFrom([]netip.Addr{{}, public, netip.MustParseAddr("10.0.0.1")}).Draw(t, "external")
				}
				step(ev)
			case doOpen:
				g := granted
				g.tcp = uint16(7700 + rapid.IntRange(0, 1).Draw(t, "port"))
				g.lease = rapid.SampledFrom([]time.Duration{minLease, time.Hour}).Draw(t, "lease")
				switch {
				case err == nil:
					held[a.id] = a.gw
				case err == errUnusable && rapid.Bool().Draw(t, "opened"):
					held[a.id] = a.gw
				default:
					g = grant{}
					if err != errUnusable && err != errSilent {
						delete(held, a.id)
					}
				}
				step(evOpened{a.id, g, err})
			case doCheck:
				step(evChecked{a.id, pulse{lost: rapid.Bool().Draw(t, "lost")}, err})
			case doRelease:
				delete(held, a.id)
				step(evReleased{a.id})
			case doVerify:
				if rapid.Bool().Draw(t, "unreached") {
					err = fmt.Errorf("%w", ErrNotReached)
				}
				step(evVerified{a.id, a.mapping.External, err})
			}
			// What the machine gave up for silence is the router's to forget.
			for id := range held {
				if w := m.way(id); w == nil || !w.held && !w.busy {
					delete(held, id)
				}
			}
		}
		step(evGateways{gws})
		for range rapid.IntRange(0, 200).Draw(t, "events") {
			switch n := rapid.IntRange(0, 9).Draw(t, "what"); {
			case n < 6 && len(busy) > 0:
				finish(rapid.IntRange(0, len(busy)-1).Draw(t, "which"))
			case n == 6:
				step(evGateways{gws[:rapid.IntRange(0, 2).Draw(t, "gateways")]})
			case n == 7:
				step(evRecheck{})
			default:
				if next := m.next(); next.After(now) {
					now = next
				}
				step(evTick{})
			}
			for _, p := range m.proved() {
				if !usable(p.External.Addr()) {
					t.Fatalf("%+v", p)
				}
			}
		}
		step(evClose{})
		for n := 0; len(busy) > 0; n++ {
			finish(0)
			if n > 1000 {
				t.Fatal("no end")
			}
		}
		if !m.done() || len(m.proved()) != 0 || len(held) != 0 {
			t.Fatalf("closed with %v", held)
		}
	})
}
