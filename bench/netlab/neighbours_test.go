//go:build linux && netlab

package netlab

import (
	"fmt"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
)

// Two homes behind one carrier's NAT have the same outside address: they meet
// where the carrier sends back what is for itself (hairpin), through their own
// routers and the carrier's.
func TestNeighboursBehindOneCarrier(t *testing.T) {
	s := newStage(t, "")
	provider := s.site(t, premises("provider", lab.Carrier, "45.88.0.2/24", "100.64.0.1/10"))
	behind := func(name, wan, lan string) *lab.Site {
		c := premises(name, lab.PortRestricted, wan, lan)
		c.Behind = provider
		return s.site(t, c)
	}
	branch := behind("branch", "100.64.3.7/10", "192.168.50.1/24")
	home := behind("home", "100.64.9.4/10", "192.168.1.1/24")
	printer := s.host(t, branch, "printer", "192.168.50.20")
	serve(t, device.ServeEcho, printer, device.JetDirectPort)
	desk := s.agent(t, s.host(t, branch, "branch-desk", "192.168.50.10"))
	s.member(t, desk, customer)
	user := s.agent(t, s.host(t, home, "home-desk", "192.168.1.10"))
	s.member(t, user, customer, "--no-tunnel")
	s.device(t, "printer", customer, printer, desk, fmt.Sprint(device.JetDirectPort))

	tunnel := s.open(t, user, "printer", device.JetDirectPort)
	began := time.Now()
	ctx := s.within(t, settle)
	if err := user.Await(ctx, "to have a path through the carrier's NAT", func() error {
		all, err := user.Tunnels(ctx)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.ID == tunnel.ID && o.Route == "punched" {
				return nil
			}
		}
		return fmt.Errorf("tunnels %+v", all)
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("punched %s later, both behind %s", time.Since(began).Round(time.Millisecond), provider.WAN)
	talk, err := converse(ctx, tunnel)
	if err != nil {
		t.Fatal(err)
	}
	if err := talk.close(); err != nil {
		t.Error(err)
	}
}
