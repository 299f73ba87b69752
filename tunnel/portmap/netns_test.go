//go:build netns && linux

package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
)

// follow is a Mapper with its changes.
type follow struct {
	*Mapper
	changes chan []Mapping
	began   time.Time
}

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
	f := &follow{changes: make(chan []Mapping, 64), began: time.Now()}
	f.Mapper, err = New(Config{Port: insidePort, Gateways: func() []Gateway { return gws }, Verify: h.reach,
		Changed: func(l []Mapping) { f.changes <- l }, Secret: []byte("secret")})
	must(h.t, "mapper", err)
	h.t.Cleanup(func() { f.end(h.t); _ = l.Close() })
	return f
}

func (f *follow) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

// await waits for a change that fits.
func (f *follow) await(t *testing.T, what string, fits func([]Mapping) bool) []Mapping {
	t.Helper()
	limit := time.After(30 * time.Second)
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
			t.Fatalf("%s: not within 30 s", what)
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
			if err := h.reach(t.Context(), got[0]); err != nil {
				t.Error(err)
			}
			began := time.Now()
			f.end(t)
			t.Logf("closed in %s", time.Since(began).Round(time.Millisecond))
			if err := h.reach(t.Context(), got[0]); !errors.Is(err, ErrNotReached) {
				t.Errorf("still open after Close: %v", err)
			}
		})
	}
}

// gateways6 are those of a home with both families.
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
