//go:build linux && netlab

package netlab

import (
	"fmt"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
)

// Where a round trip takes 100 ms and the line 100 Mbit/s, more than a megabyte is under way when the line is full. A tunnel
// gets its bytes there whole, by its own connection and through a relay; how much of the line each takes, beside a bare TCP
// connection of the same two hosts, is noted and judges nothing.
func TestLongFatPath(t *testing.T) {
	const much = 24 << 20
	s := newStage(t, "")
	c := premises("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24")
	c.Path = &lab.Path{OneWay: 50 * time.Millisecond, Rate: 100e6}
	home := s.site(t, c)
	office := s.site(t, premises("office", lab.Open, "45.77.0.2/24", "45.44.0.1/24"))
	plotter := s.host(t, office, "plotter", "45.44.0.20")
	raw := serve(t, device.ServeJetDirect, plotter, device.JetDirectPort)
	desk := s.agent(t, s.host(t, office, "office-desk", "45.44.0.10"))
	s.member(t, desk, customer)
	user := s.agent(t, s.host(t, home, "home-desk", "192.168.1.10"))
	s.member(t, user, customer, "--no-tunnel")
	s.device(t, "plotter", customer, plotter, desk, fmt.Sprint(device.JetDirectPort))

	ctx := s.within(t, 2*settle)
	began := time.Now()
	conn, err := user.Host().Dial(ctx, "tcp", fmt.Sprintf("%s:%d", plotter.Addr(), device.JetDirectPort))
	if err != nil {
		t.Fatal(err)
	}
	if trip := time.Since(began); trip < 2*c.Path.OneWay {
		t.Fatalf("a round trip took %s: this is no long path", trip)
	}
	bare := deliverOver(t, ctx, conn.(duplex), "bare TCP", raw, 0, much)
	if least := time.Duration((much - 1<<20) * 8 * int64(time.Second) / c.Path.Rate); bare < least {
		t.Fatalf("bare TCP took %s, and the line needs %s: it has no rate", bare, least)
	}
	for i, route := range []string{"direct", "relayed"} {
		t.Run(route, func(t *testing.T) {
			tunnel := s.open(t, user, "plotter", device.JetDirectPort, "--route", route)
			if tunnel.Route != route {
				t.Fatalf("the route is %s, asked was %s", tunnel.Route, route)
			}
			took := deliver(t, s.within(t, settle), tunnel, raw, uint64(i+1), much)
			t.Logf("%.2f of what bare TCP moves", bare.Seconds()/took.Seconds())
		})
	}
}
