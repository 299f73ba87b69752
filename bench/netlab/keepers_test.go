//go:build linux && netlab

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

const (
	colleagues = 6
	// holds is how often an agent refreshes its binding here. One that says
	// nothing to a super-node for three times as long holds none.
	holds = 2 * time.Second
)

var stepsIn = soon(5 * time.Second) // LOC-6

// Of six agents at one place two hold bindings, and the others are silent
// towards super-nodes. When both are gone without a word, others step in.
func TestKeepers(t *testing.T) {
	s := newStage(t, fmt.Sprintf("keepalive = %q\n", holds))
	branch := s.site(t, premises("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24"))
	home := s.site(t, premises("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24"))
	printer := s.host(t, branch, "printer", "192.168.50.20")
	serve(t, device.ServeEcho, printer, device.JetDirectPort)
	desks := make(map[netip.Addr]*mesh.Agent)
	var first *mesh.Agent
	for i := range colleagues {
		addr := fmt.Sprintf("192.168.50.%d", 101+i)
		a := s.agent(t, s.host(t, branch, fmt.Sprintf("desk-%d", 1+i), addr))
		s.member(t, a, customer)
		desks[netip.MustParseAddr(addr)] = a
		if first == nil {
			first = a
		}
	}
	user := s.agent(t, s.host(t, home, "home-desk", "192.168.1.10"))
	s.member(t, user, customer, "--no-tunnel")
	s.device(t, "printer", customer, printer, first, fmt.Sprint(device.JetDirectPort))

	l := listen(t, branch)
	ctx := s.within(t, 2*settle)
	keepers, err := await(ctx, func() []netip.Addr {
		if now := l.steady(); len(now) == 2 {
			return now
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v hold bindings, and not two", l.steady())
	}
	t.Logf("of %d agents %v hold bindings", colleagues, keepers)
	for _, k := range keepers {
		desks[k].Kill()
	}
	gone := time.Now()
	next, err := await(s.within(t, stepsIn), func() []netip.Addr { return l.begun(gone) })
	if err != nil {
		t.Fatalf("nobody has stepped in within %s", stepsIn)
	}
	t.Logf("%v are gone; %v step in after %s", keepers, next, time.Since(gone).Round(time.Millisecond))
	tunnel, err := user.AwaitOpen(s.within(t, settle), "printer", device.JetDirectPort)
	if err != nil {
		t.Fatal(err)
	}
	talk, err := converse(s.within(t, settle), tunnel)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the printer answers by %s %s after they were gone", tunnel.Route, time.Since(gone).Round(time.Millisecond))
	if err := talk.close(); err != nil {
		t.Error(err)
	}
}

// listener notes who of a site's LAN talks to super-nodes, and since when
// without a pause.
type listener struct {
	mu    sync.Mutex
	since map[netip.Addr]time.Time
	last  map[netip.Addr]time.Time
}

func listen(t *testing.T, site *lab.Site) *listener {
	t.Helper()
	l := &listener{since: make(map[netip.Addr]time.Time), last: make(map[netip.Addr]time.Time)}
	lan := netip.MustParsePrefix("192.168.50.0/24")
	c, err := site.Router.Capture("lan0", func(p lab.Packet) bool {
		if p.UDP(mesh.MessagePort) && lan.Contains(p.From.Addr()) && !lan.Contains(p.To.Addr()) {
			l.heard(p.From.Addr(), time.Now())
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Stop(); err != nil && !errors.Is(err, lab.ErrDropped) {
			t.Error(err)
		}
	})
	return l
}

func (l *listener) heard(from netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.last[from]) > 3*holds {
		l.since[from] = now
	}
	l.last[from] = now
}

// steady are those that have been heard for a while without a pause, once
// nobody else is heard: nil before.
func (l *listener) steady() (hold []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for a, last := range l.last {
		if now.Sub(last) > 3*holds {
			continue
		}
		if now.Sub(l.since[a]) < 5*holds {
			return nil
		}
		hold = append(hold, a)
	}
	slices.SortFunc(hold, netip.Addr.Compare)
	return hold
}

// begun are those that were silent before a time and are heard since.
func (l *listener) begun(since time.Time) (hold []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, t := range l.since {
		if t.After(since) {
			hold = append(hold, a)
		}
	}
	return hold
}

// await waits until somebody is found.
func await(ctx context.Context, find func() []netip.Addr) ([]netip.Addr, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if l := find(); len(l) > 0 {
			return l, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
