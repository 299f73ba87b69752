package portmap

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
)

const testPort = 7700

// rig is a Mapper at a fake router.
type rig struct {
	*Mapper
	changes chan []Mapping
}

func believe(context.Context, Mapping) error { return nil }

func newRig(t *testing.T, f *fake, verify func(context.Context, Mapping) error) *rig {
	t.Helper()
	r := &rig{changes: make(chan []Mapping, 100)}
	var err error
	r.Mapper, err = newMapper(Config{Port: testPort, Gateways: func() []Gateway { return []Gateway{here} }, Verify: verify,
		Changed: func(l []Mapping) { r.changes <- l }, Secret: []byte("secret")}, f.ports)
	must(t, "mapper", err)
	t.Cleanup(func() { r.end(t) })
	return r
}

func (r *rig) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, "close", r.Close(ctx))
}

func (r *rig) await(t *testing.T, fits func([]Mapping) bool) []Mapping {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case l := <-r.changes:
			if fits(l) {
				return l
			}
		case <-limit:
			t.Fatalf("not in time: %+v", r.Status())
		}
	}
}

// state waits until a protocol has got so far.
func (r *rig) state(t *testing.T, protocol string, want State) (s Status) {
	t.Helper()
	r.until(t, fmt.Sprintf("%s is %s", protocol, want), func(l []Status) bool {
		i := slices.IndexFunc(l, func(s Status) bool { return s.Protocol == protocol && s.State == want })
		if i >= 0 {
			s = l[i]
		}
		return i >= 0
	})
	return s
}

// until waits until what is known of the protocols is as it should be.
func (r *rig) until(t *testing.T, what string, holds func([]Status) bool) {
	t.Helper()
	limit := time.After(patience)
	for !holds(r.Status()) {
		select {
		case <-limit:
			t.Fatalf("not yet: %s: %+v", what, r.Status())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func two(by string) func([]Mapping) bool {
	return func(l []Mapping) bool { return len(l) == 2 && l[0].By == by }
}

func TestEachProtocolMapsAndUnmaps(t *testing.T) {
	for by, f := range map[string]*fake{ByIGD1: {version: 1}, ByIGD2: {version: 2}, ByNATPMP: {pmp: true}, ByPCP: {pcp: true}} {
		t.Run(by, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) })
			f.start(t)
			r := newRig(t, f, believe)
			l := r.await(t, two(by))
			tcp, _ := mapping(l, protocol.TCP)
			udp, _ := mapping(l, protocol.UDP)
			want := netip.AddrPortFrom(public, testPort)
			if tcp.External != want || udp.External != want || tcp.Internal != netip.AddrPortFrom(loopback, testPort) {
				t.Errorf("%+v", l)
			}
			if life := time.Until(tcp.Expires); life > leaseTime || life < leaseTime-time.Minute {
				t.Errorf("lease %s", life)
			}
			if e := f.entries(); len(e) != 2 || e["TCP 7700"] != (entry{"127.0.0.1", testPort, 3600}) {
				t.Errorf("router has %v", e)
			}
			r.state(t, strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(by, "-igd1"), "-igd2"), ""), Serving)
			r.end(t)
			if e := f.entries(); len(e) != 0 {
				t.Errorf("left behind: %v", e)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Errorf("closed again: %v", err)
			}
		})
	}
}

func TestOneProtocolServes(t *testing.T) {
	f := (&fake{version: 2, pmp: true, pcp: true}).start(t)
	r := newRig(t, f, believe)
	l := r.await(t, func(l []Mapping) bool { return len(l) == 2 })
	serving := 0
	r.until(t, "one protocol serves and two are available", func(l []Status) bool { // whichever was the quickest
		serving = 0
		for _, s := range l {
			if s.State == Serving {
				serving++
			} else if s.State != Available {
				return false
			}
		}
		return len(l) == 3
	})
	if serving != 1 || l[0].By != l[1].By {
		t.Errorf("%d serve: %+v", serving, l)
	}
	r.end(t)
	if e := f.entries(); len(e) != 0 {
		t.Errorf("left behind: %v", e)
	}
}

func TestForgetfulRouter(t *testing.T) {
	for name, f := range map[string]*fake{"upnp": {version: 1}, "nat-pmp": {pmp: true}, "pcp": {pcp: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.start(t)
			r := newRig(t, f, believe)
			r.await(t, func(l []Mapping) bool { return len(l) == 2 })
			moved := netip.MustParseAddr("198.51.100.9")
			f.mu.Lock()
			clear(f.table)
			f.epoch, f.external = 1, moved
			f.mu.Unlock()
			r.tell(evRecheck{})
			l := r.await(t, func(l []Mapping) bool { return len(l) == 2 })
			if l[0].External != netip.AddrPortFrom(moved, testPort) || len(f.entries()) != 2 {
				t.Errorf("%+v, router has %v", l, f.entries())
			}
		})
	}
}

func TestPermanentLeases(t *testing.T) {
	f := (&fake{version: 1, permanent: true}).start(t)
	r := newRig(t, f, believe)
	r.await(t, two(ByIGD1))
	if e := f.entries(); len(e) != 2 || e["TCP 7700"].lease != 0 {
		t.Errorf("router has %v", e)
	}
	r.end(t)
	if e := f.entries(); len(e) != 0 {
		t.Errorf("left behind for ever: %v", e)
	}
}

func TestConflict(t *testing.T) {
	other := entry{"127.0.0.99", testPort, 3600}
	for version, by := range map[int]string{1: ByIGD1, 2: ByIGD2} {
		f := (&fake{version: version, table: map[string]entry{"TCP 7700": other, "UDP 7700": other}}).start(t)
		r := newRig(t, f, believe)
		l := r.await(t, two(by))
		if l[0].External.Port() == testPort || l[0].External.Port() == 0 {
			t.Errorf("%+v", l)
		}
		r.end(t)
		f.mu.Lock()
		if len(f.table) != 2 || f.table["TCP 7700"] != other {
			t.Errorf("the other's mapping: %v", f.table)
		}
		f.mu.Unlock()
	}
}

func TestCarrierNAT(t *testing.T) {
	for _, a := range []string{"100.64.0.7", "192.168.1.2", "10.0.0.1", "0.0.0.0", "169.254.1.1", "127.0.0.1", "255.255.255.255"} {
		f := (&fake{version: 1, pmp: true, pcp: true, external: netip.MustParseAddr(a)}).start(t)
		r := newRig(t, f, func(context.Context, Mapping) error { t.Error("verified"); return nil })
		for _, p := range []string{"upnp", "nat-pmp", "pcp"} {
			s := r.state(t, p, Unusable)
			if s.Err == nil || a != "0.0.0.0" && s.External.String() != a {
				t.Errorf("%s %s: %+v", a, p, s)
			}
		}
		r.end(t)
		if e := f.entries(); len(e) != 0 {
			t.Errorf("%s: left behind: %v", a, e)
		}
	}
}

// TestVerification: what nobody comes through is not handed out, and another protocol gets its turn.
func TestVerification(t *testing.T) {
	f := (&fake{version: 1, pmp: true}).start(t)
	var tried atomic.Int32
	var first atomic.Value
	r := newRig(t, f, func(_ context.Context, m Mapping) error {
		tried.Add(1)
		if first.CompareAndSwap(nil, m.By) || first.Load() == m.By {
			return fmt.Errorf("%w: lies", ErrNotReached)
		}
		return nil
	})
	l := r.await(t, func(l []Mapping) bool { return len(l) > 0 })
	if l[0].By == first.Load() || tried.Load() != unreachedMax+1 {
		t.Errorf("%s after %d attempts at %v", l[0].By, tried.Load(), first.Load())
	}
}

// TestRogueUPnP: whatever answers, nothing is dialled but the gateway, and nothing is mapped for others.
func TestRogueUPnP(t *testing.T) {
	var dialled atomic.Int32
	elsewhere := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dialled.Add(1)
		fmt.Fprintf(w, rootXML, 1, "/ctl")
	}))
	if l, err := listenElsewhere(); err == nil {
		elsewhere.Listener = l
	} else {
		t.Logf("only one loopback address here: %v", err)
	}
	elsewhere.Start()
	defer elsewhere.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(elsewhere.URL, "http://"), ":")
	off := "http://127.0.0.2:" + port
	t.Run("answers", func(t *testing.T) {
		for name, f := range map[string]*fake{
			"location off-link":    {location: off + "/root.xml"},
			"location by name":     {location: "http://localhost:" + port + "/root.xml"},
			"location by https":    {location: "https://127.0.0.1:" + port + "/root.xml"},
			"location of a file":   {location: "file:///etc/passwd"},
			"location with a user": {location: "http://a@127.0.0.1:" + port + "/root.xml"},
			"redirect": {version: 1, web: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, off+"/root.xml", http.StatusFound)
			}},
			"control off-link": {version: 1, web: func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, rootXML, 1, off+"/ctl") }},
			"base off-link": {version: 1, web: func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, strings.Replace(fmt.Sprintf(rootXML, 1, "/ctl"), "<device>", "<URLBase>"+off+"/</URLBase><device>", 1))
			}},
			"endless": {version: 1, web: func(w http.ResponseWriter, r *http.Request) {
				line := []byte("<root>" + strings.Repeat("x", 1<<16))
				for range 64 {
					if _, err := w.Write(line); err != nil {
						return
					}
				}
			}},
			"deep":    {version: 1, web: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("<device>", 30000)) }},
			"nothing": {version: 1, web: func(w http.ResponseWriter, r *http.Request) {}},
			"long fault": {version: 1, web: func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					fmt.Fprintf(w, rootXML, 1, "/ctl")
					return
				}
				fmt.Fprint(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>`+strings.Repeat("<a>\x1b</a>", 1<<14)+`</s:Body></s:Envelope>`)
			}},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f.start(t)
				r := newRig(t, f, func(context.Context, Mapping) error { t.Error("verified"); return nil })
				s := r.state(t, "upnp", Absent)
				if s.Err == nil || len(s.Err.Error()) > 400 {
					t.Errorf("%v", s.Err)
				}
				r.end(t)
			})
		}
	})
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d requests off-link", n)
	}
	// A router that gives what we ask for to another, as it says.
	f := (&fake{version: 1, foreign: "127.0.0.50"}).start(t)
	r := newRig(t, f, func(context.Context, Mapping) error { t.Error("verified"); return nil })
	r.state(t, "upnp", Refused)
	if l := r.Mappings(); len(l) != 0 {
		t.Errorf("%v", l)
	}
}

// TestLyingAnswers: datagrams that do not belong to a question are as none.
func TestLyingAnswers(t *testing.T) {
	for name, wrong := range map[string]func([]byte) []byte{
		"nonce":    func(b []byte) []byte { return flip(b, 24) },
		"protocol": func(b []byte) []byte { return flip(b, 36) },
		"port":     func(b []byte) []byte { return flip(b, 41) },
		"opcode":   func(b []byte) []byte { return flip(b, 1) },
		"version":  func(b []byte) []byte { return flip(b, 0) },
		"short":    func(b []byte) []byte { return b[:len(b)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := (&fake{pcp: true, wrong: func(b []byte) []byte {
				if len(b) < pcpMapSize {
					return b // so that it counts as a PCP server
				}
				return wrong(b)
			}}).start(t)
			c := &pcpClient{datagrams: datagrams{here, f.ports.pmp}, inside: testPort, secret: []byte("x")}
			if _, _, err := c.probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if g, err := c.open(ctx, grant{}); err == nil {
				t.Errorf("believed: %+v", g)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 0x41
	return b
}
