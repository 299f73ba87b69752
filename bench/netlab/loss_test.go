//go:build linux && netlab

package netlab

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// Packets that get lost in both directions cost time and nothing else: the
// tunnel comes up, becomes the punched one, and delivers every byte.
func TestLoss(t *testing.T) {
	s := newStage(t, "")
	branch := s.site(t, premises("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24"))
	home := s.site(t, premises("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24"))
	printer := s.host(t, branch, "printer", "192.168.50.20")
	raw := serve(t, device.ServeJetDirect, printer, device.JetDirectPort)
	desk := s.agent(t, s.host(t, branch, "branch-desk", "192.168.50.10"))
	s.member(t, desk, customer)
	user := s.agent(t, s.host(t, home, "home-desk", "192.168.1.10"))
	s.member(t, user, customer, "--no-tunnel")
	s.device(t, "printer", customer, printer, desk, fmt.Sprint(device.JetDirectPort))
	for i, percent := range []int{0, 1, 5, 10, 20} {
		t.Run(fmt.Sprintf("%d%%", percent), func(t *testing.T) {
			if err := home.Loss(percent); err != nil {
				t.Fatal(err)
			}
			ctx := s.within(t, 2*settle)
			if err := user.Restart(ctx); err != nil { // nothing is left of the links before
				t.Fatal(err)
			}
			began := time.Now()
			tunnel, err := user.AwaitOpen(ctx, "printer", device.JetDirectPort)
			if err != nil {
				t.Fatal(err)
			}
			up := time.Since(began)
			if err := user.Await(ctx, "to have punched", func() error {
				all, err := user.Tunnels(ctx)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(all, func(o mesh.Tunnel) bool { return o.ID == tunnel.ID && o.Route == "punched" }) {
					return fmt.Errorf("tunnels %+v", all)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			t.Logf("up by %s after %s, punched after %s", tunnel.Route, up.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			tunnel.Route = "punched"
			deliver(t, ctx, tunnel, raw, uint64(i), 512<<10)
			if err := user.Close(ctx, tunnel); err != nil {
				t.Error(err)
			}
		})
	}
}
