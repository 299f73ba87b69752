//go:build netns && linux

package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"culvert/protocol"
)

// follow is a Mapper with its changes.
type follow struct {
	*Mapper
	changes chan []Mapping
	began   time.Time
}

// mapper listens on the port and has it mapped.
func (h *home) mapper(gws ...Gateway) *follow {
	h.t.Helper()
	l, err := net.Listen("tcp", ":7700")
	must(h.t, "listen", err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	h.t.Cleanup(func() { _ = l.Close() })
	return newFollow(h.t, h, gws...)
}

func newFollow(t *testing.T, h *home, gws ...Gateway) *follow {
	t.Helper()
	f := &follow{changes: make(chan []Mapping, 64), began: time.Now()}
	var err error
	f.Mapper, err = New(Config{Port: insidePort, Gateways: func() []Gateway { return gws }, Verify: h.reach,
		Changed: func(l []Mapping) { f.changes <- l }, Secret: []byte("secret")})
	must(t, "mapper", err)
	t.Cleanup(func() { f.end(t) })
	return f
}

// settled waits until it is known what comes of a protocol.
func (f *follow) settled(t *testing.T, protocol string) Status {
	t.Helper()
	limit := time.After(patience)
	for {
		for _, s := range f.Status() {
			if s.Protocol == protocol && s.State != Asking && s.State != Available && s.State != Open {
				return s
			}
		}
		select {
		case <-limit:
			t.Fatalf("%s: %+v", protocol, f.Status())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (f *follow) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// await waits for a change that fits.
func (f *follow) await(t *testing.T, what string, fits func([]Mapping) bool) []Mapping {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case l := <-f.changes:
			if fits(l) {
				t.Logf("%s: %v after %s", what, l, time.Since(f.began).Round(time.Millisecond))
				return l
			}
		case <-limit:
			for _, s := range f.Status() {
				t.Logf("%s %s %s %v", s.Protocol, s.State, s.External, s.Err)
			}
			t.Fatalf("%s: not in time", what)
		}
	}
}

func both(by string, at netip.Addr) func([]Mapping) bool {
	return func(l []Mapping) bool {
		return len(l) == 2 && l[0].By == by && l[0].Protocol == protocol.TCP && l[1].Protocol == protocol.UDP && l[0].External.Addr() == at
	}
}

// TestEachProtocolAlone has a real router speak one protocol and no other.
func TestEachProtocolAlone(t *testing.T) {
	for _, c := range []struct {
		by       string
		settings []string
		filter   string
	}{
		{ByIGD1, []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=yes"}, ""},
		{ByIGD2, []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=no"}, ""},
		{ByNATPMP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 2 drop"},
		{ByPCP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 0 drop"},
	} {
		t.Run(c.by, func(t *testing.T) {
			h := newHome(t)
			h.deaf(c.filter)
			h.daemon(c.settings...)
			f := h.mapper(h.gw)
			got := f.await(t, "mapped", both(c.by, wanRouter))
			if got[0].External.Port() != insidePort || got[0].Internal != netip.AddrPortFrom(lanOwn, insidePort) {
				t.Errorf("%+v", got)
			}
			h.reached(got[0])
			began := time.Now()
			f.end(t)
			t.Logf("closed in %s", time.Since(began).Round(time.Millisecond))
			if err := h.reach(t.Context(), got[0]); !errors.Is(err, ErrNotReached) {
				t.Errorf("still open after Close: %v", err)
			}
		})
	}
}

// gateway6 is the same router in IPv6.
func (h *home) gateway6() Gateway {
	return Gateway{netip.MustParseAddr("2a0e:4d77::1"), lanSix, "eth0"}
}

func TestPinholes(t *testing.T) {
	for _, c := range []struct {
		by       string
		settings []string
		filter   string
	}{
		{ByIGD2, []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=no"}, "udp dport 5351 drop"},
		{ByPCP, []string{"enable_upnp=no", "enable_natpmp=yes"}, ""},
	} {
		t.Run(c.by, func(t *testing.T) {
			h := newHome(t)
			h.deaf(c.filter)
			h.daemon(append(c.settings, "ipv6_disable=no")...)
			f := h.mapper(h.gateway6())
			got := f.await(t, "opened", both(c.by, lanSix))
			f.end(t)
			if err := h.reach(t.Context(), got[0]); !errors.Is(err, ErrNotReached) {
				t.Errorf("still open after Close: %v", err)
			}
		})
	}
}

// TestRouterRestarts: another WAN address, and nothing remembered.
func TestRouterRestarts(t *testing.T) {
	for _, c := range []struct {
		by       string
		settings []string
		filter   string
	}{
		{ByIGD2, []string{"enable_upnp=yes", "enable_natpmp=no"}, ""},
		{ByNATPMP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 2 drop"},
		{ByPCP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 0 drop"},
	} {
		t.Run(c.by, func(t *testing.T) {
			h := newHome(t)
			h.deaf(c.filter)
			stop := h.daemon(c.settings...)
			f := h.mapper(h.gw)
			f.await(t, "mapped", both(c.by, wanRouter))
			stop()
			h.sh("nft", "flush", "chain", "inet", "nat", "prerouting_miniupnpd")
			h.sh("nft", "flush", "chain", "inet", "fw", "miniupnpd")
			h.sh("ip", "addr", "del", "192.0.1.2/24", "dev", "wan")
			h.sh("ip", "addr", "add", "192.0.1.3/24", "dev", "wan")
			h.daemon(c.settings...)
			f.began = time.Now() // the daemon announces itself
			got := f.await(t, "mapped again", both(c.by, netip.MustParseAddr("192.0.1.3")))
			h.reached(got[0])
		})
	}
}

// TestForeignPort: another machine of the LAN has the port already, and keeps it.
func TestForeignPort(t *testing.T) {
	for _, c := range []struct {
		by       string
		settings []string
		filter   string
	}{
		{ByIGD1, []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=yes"}, ""},
		{ByIGD2, []string{"enable_upnp=yes", "enable_natpmp=no"}, ""},
		{ByNATPMP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 2 drop"},
		{ByPCP, []string{"enable_upnp=no", "enable_natpmp=yes"}, "udp dport 5351 @th,64,8 0 drop"},
	} {
		t.Run(c.by, func(t *testing.T) {
			h := newHome(t)
			h.deaf(c.filter)
			h.daemon(c.settings...)
			here, err := netlink.NewHandle()
			must(t, "handle", err)
			defer here.Close()
			raise(t, here, "eth0", "192.168.77.31/24")
			first := h.mapper(h.gw)
			got := first.await(t, "first", both(c.by, wanRouter))
			other := h.gw
			other.Local = netip.MustParseAddr("192.168.77.31")
			second := newFollow(t, h, other)
			also := second.await(t, "second", both(c.by, wanRouter))
			if also[0].External == got[0].External || also[1].External == got[1].External {
				t.Errorf("both have %v", also)
			}
			second.end(t)
			h.reached(got[0])
		})
	}
}

// TestCarrier: behind a carrier's NAT nothing is handed out, and it is said why.
func TestCarrier(t *testing.T) {
	h := newHome(t)
	h.sh("ip", "addr", "del", "192.0.1.2/24", "dev", "wan")
	h.sh("ip", "addr", "add", "100.64.0.2/24", "dev", "wan")
	h.daemon("enable_upnp=yes", "enable_natpmp=yes")
	f := h.mapper(h.gw)
	for _, p := range []string{"upnp", "nat-pmp", "pcp"} {
		s := f.settled(t, p)
		t.Logf("%s: %s %s: %v, after %s", p, s.State, s.External, s.Err, time.Since(f.began).Round(time.Millisecond))
		if s.State != Unusable && s.State != Refused || s.Err == nil {
			t.Errorf("%+v", s)
		}
	}
	if l := f.Mappings(); len(l) != 0 {
		t.Errorf("%v", l)
	}
}

// TestNoDaemon measures how long it takes to know that a router speaks none of it.
func TestNoDaemon(t *testing.T) {
	h := newHome(t)
	f := h.mapper(h.gw, h.gateway6())
	for _, p := range []string{"pcp", "nat-pmp", "upnp", "upnp-pinhole"} {
		s := f.settled(t, p)
		t.Logf("%s: %s after %s", p, s.State, s.Took.Round(time.Millisecond))
		if s.State != Absent {
			t.Errorf("%+v", s)
		}
	}
}

// TestAllAtOnce: a router that speaks everything, in both families; what is closed is closed.
func TestAllAtOnce(t *testing.T) {
	h := newHome(t)
	h.daemon("enable_upnp=yes", "enable_natpmp=yes", "ipv6_disable=no")
	f := h.mapper(h.gw, h.gateway6())
	got := f.await(t, "all", func(l []Mapping) bool { return len(l) == 4 })
	f.end(t)
	for _, m := range got {
		if m.Protocol == protocol.TCP && !errors.Is(h.reach(t.Context(), m), ErrNotReached) {
			t.Errorf("still open: %v", m)
		}
	}
	if rules := h.sh("nft", "list", "chain", "inet", "nat", "prerouting_miniupnpd"); strings.Contains(rules, "7700") {
		t.Errorf("left behind:\n%s", rules)
	}
}

// TestRogueOnTheLAN: another machine of the LAN answers every search sooner than the router, and so does the router itself
// with an address on the other side. Neither is dialled, and what the real daemon has mapped is nobody else's.
func TestRogueOnTheLAN(t *testing.T) {
	h := newHome(t)
	dialled := h.rogue()
	f := h.mapper(h.gw)
	s := f.settled(t, "upnp")
	t.Logf("%s: %v", s.State, s.Err)
	if s.State != Absent {
		t.Errorf("%+v", s)
	}
	if n := dialled(); n != 0 {
		t.Errorf("%d connections to where a rogue pointed", n)
	}
	if l := f.Mappings(); len(l) != 0 {
		t.Errorf("%v", l)
	}
}
