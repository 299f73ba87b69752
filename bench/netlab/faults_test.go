//go:build linux && netlab

package netlab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

const (
	// watched is for how long a fault's consequences are looked at, and steady
	// how many connections in a row make it over sooner.
	watched = settle
	steady  = 20
	// regained is how long the route of before is waited for, where there is
	// time for everything.
	regained = 30 * time.Second
)

// workAgain is how soon after a fault new connections must work.
var workAgain = soon(5 * time.Second)

// A fault is something that happens to a network while connections are opened
// through it.
type fault struct {
	name string
	do   func() error
}

// Connections are opened every 100 ms, through a tunnel that is free to choose
// its route and through a relayed one, while one thing after the other happens.
func TestFaults(t *testing.T) {
	s := newStage(t, "")
	branch := s.site(t, premises("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24"))
	home := s.site(t, premises("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24"))
	cafe := s.site(t, premises("cafe", lab.PortRestricted, "45.77.0.2/24", "192.168.7.1/24"))
	printer := s.host(t, branch, "printer", "192.168.50.20")
	serve(t, device.ServeEcho, printer, device.JetDirectPort)
	desk := s.agent(t, s.host(t, branch, "desk", "192.168.50.10"))
	laptop := s.agent(t, s.host(t, home, "laptop", "192.168.1.10"))
	s.member(t, desk, customer)
	s.member(t, laptop, customer, "--no-tunnel")
	s.device(t, "printer", customer, printer, desk, fmt.Sprint(device.JetDirectPort))
	tunnels := []mesh.Tunnel{
		s.open(t, laptop, "printer", device.JetDirectPort),
		s.open(t, laptop, "printer", device.JetDirectPort, "--route", "relayed"),
	}
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintln(rows, "FAULT\tROUTE\tTHEN\tWORKS AFTER\tFINE\tFAILED\tSLOWEST FAILURE\tLONG ONES BROKEN\tFIRST AFTER\tHUNG\tWRONG\tROUTE AGAIN")
	faults := []fault{
		{"NAT of the device's site flushed", branch.FlushNAT},
		{"NAT of the user's site flushed", home.FlushNAT},
		{"user's router rebooted, new address", func() error { return home.Reboot(netip.MustParsePrefix("45.66.0.9/24")) }},
		{"device's router rebooted, new address", func() error { return branch.Reboot(netip.MustParsePrefix("45.55.0.9/24")) }},
		{"relay killed", func() error {
			s.relayOf(t, laptop, tunnels[1]).Kill()
			return nil
		}},
		{"relay back, laptop to another site", func() error {
			for _, a := range s.supers {
				if !a.Running() {
					if err := a.Restart(s.within(t, settle)); err != nil {
						return err
					}
				}
			}
			return cafe.Move(laptop.Host(), netip.MustParseAddr("192.168.7.10"))
		}},
		{"laptop back home", func() error { return home.Move(laptop.Host(), netip.MustParseAddr("192.168.1.10")) }},
	}
	if full() {
		faults = append(faults,
			fault{"relay unplugged, nobody is told", func() error { return s.relayOf(t, laptop, tunnels[1]).Host().Unplug() }},
			fault{"user's site loses 5% of its packets", func() error { return home.Loss(5) }})
	}
	for _, f := range faults {
		s.suffer(t, rows, laptop, tunnels, f)
	}
	if err := rows.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", table.String())
}

// suffer has traffic through the tunnels while a fault happens, and judges.
func (s stage) suffer(t *testing.T, rows *tabwriter.Writer, from *mesh.Agent, tunnels []mesh.Tunnel, f fault) {
	t.Helper()
	ctx, done := context.WithTimeout(s.ctx, 4*settle)
	defer done()
	var all []*traffic
	for _, tunnel := range tunnels {
		all = append(all, startTraffic(ctx, tunnel))
	}
	stop := func() {
		for _, x := range all {
			x.stop()
		}
	}
	defer stop()
	if !workAll(ctx, all, time.Now(), watched) {
		t.Fatalf("before %q nothing works", f.name)
	}
	before := s.routes(t, from, tunnels)
	at := time.Now()
	if err := f.do(); err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	workAll(ctx, all, at, watched)
	patient, enough := context.WithTimeout(ctx, hung+every)
	for _, x := range all {
		x.awaitBeat(patient, at.Add(2*time.Second))
	}
	enough()
	after := s.routes(t, from, tunnels)
	again := "-"
	if full() {
		again = s.regain(ctx, t, from, tunnels[0], before[0], at)
	}
	stop()
	for i, x := range all {
		c := x.since(at)
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\t%d\t%d\t%s\n", f.name, before[i], after[i], short(c.recovered), c.fine, c.failed,
			short(c.slowest), c.broken, short(c.brokenIn), c.hung, len(c.wrong), again)
		if c.recovered < 0 || c.recovered > workAgain {
			t.Errorf("%s: by %s, new connections work after %s, not %s", f.name, before[i], short(c.recovered), workAgain)
		}
		if c.hung > 0 || len(c.wrong) > 0 {
			t.Errorf("%s: by %s, %d connections hang, %d have wrong bytes: %v", f.name, before[i], c.hung, len(c.wrong), c.wrong)
		}
	}
}

// regain waits for a tunnel to take the route again that it had, while there is
// traffic, and says how long after the fault that was.
func (s stage) regain(ctx context.Context, t *testing.T, from *mesh.Agent, tunnel mesh.Tunnel, route string, fault time.Time) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, regained)
	defer cancel()
	tick := time.NewTicker(2 * every)
	defer tick.Stop()
	for s.routes(t, from, []mesh.Tunnel{tunnel})[0] != route {
		select {
		case <-ctx.Done():
			return "not in " + regained.String()
		case <-tick.C:
		}
	}
	return short(time.Since(fault))
}

func short(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(time.Millisecond).String()
}

// workAll waits until connections work in a row through each tunnel.
func workAll(ctx context.Context, all []*traffic, since time.Time, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		fine := true
		for _, x := range all {
			fine = fine && x.works(since, steady)
		}
		if fine {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// routes are those in use now; a tunnel without one has a dash.
func (s stage) routes(t *testing.T, from *mesh.Agent, tunnels []mesh.Tunnel) []string {
	t.Helper()
	list, err := from.Tunnels(s.within(t, settle))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(tunnels))
	for i, tunnel := range tunnels {
		out[i] = "-"
		for _, l := range list {
			if l.ID == tunnel.ID && l.Route != "" {
				out[i] = l.Route
			}
		}
	}
	return out
}

// relayOf is the super-node by which a tunnel goes now.
func (s stage) relayOf(t *testing.T, from *mesh.Agent, tunnel mesh.Tunnel) *mesh.Agent {
	t.Helper()
	ctx := s.within(t, settle)
	list, err := from.Tunnels(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		for _, a := range s.supers {
			if l.ID != tunnel.ID || l.Relay == "" {
				continue
			}
			if id, err := a.NodeID(ctx); err == nil && id == l.Relay {
				return a
			}
		}
	}
	t.Fatalf("no super-node relays %s: %+v", tunnel.ID, list)
	return nil
}
