//go:build linux && netlab

package netlab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// mappable is a premises whose router opens ports by one protocol alone, with a printer.
type mappable struct {
	kind    lab.Kind
	site    *lab.Site
	desk    *mesh.Agent
	printer *lab.Host
	raw     *device.Server
}

// newDesk puts an agent on a site.
func (w *world) newDesk(t *testing.T, s *lab.Site, name, addr string) *mesh.Agent {
	t.Helper()
	h, err := s.Host(name, netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	a, err := mesh.NewAgent(program, h, w.dir, w.conf)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A printer behind each kind of router that opens ports, asked from behind one whose NAT nobody can punch: the mapped route
// comes up by every protocol alone, comes up again when the router has restarted with another address, and ends with the agent.
func TestMappedRoutes(t *testing.T) {
	w := newWorld(t, "")
	far, err := w.lab.Site(premises("far", lab.Symmetric, "45.99.0.2/24", "192.168.99.1/24"))
	if err != nil {
		t.Fatal(err)
	}
	user := w.newDesk(t, far, "far-desk", "192.168.99.10")
	var sites []*mappable
	agents := []*mesh.Agent{user}
	for i, kind := range []lab.Kind{lab.UPnP1, lab.UPnP2, lab.NATPMP, lab.PCP} {
		m := &mappable{kind: kind}
		lan := fmt.Sprintf("192.168.%d", 101+i)
		m.site, err = w.lab.Site(lab.SiteConfig{Name: string(kind), Kind: kind, WAN: netip.MustParsePrefix(fmt.Sprintf("45.10%d.0.2/24", 1+i)),
			LANs: []netip.Prefix{netip.MustParsePrefix(lan + ".1/24")}})
		if err != nil {
			t.Fatal(err)
		}
		if m.printer, err = m.site.Host("printer-"+string(kind), netip.MustParseAddr(lan+".20")); err != nil {
			t.Fatal(err)
		}
		m.desk = w.newDesk(t, m.site, "desk-"+string(kind), lan+".10")
		m.raw = serve(t, device.ServeJetDirect, m.printer, device.JetDirectPort)
		sites, agents = append(sites, m), append(agents, m.desk)
	}
	ctx := w.within(t, 2*settle)
	if err := w.each(ctx, agents, func(ctx context.Context, a *mesh.Agent) error {
		if err := w.enrol(ctx, a, customer); err != nil {
			return err
		}
		return a.Start(ctx)
	}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i, m := range sites {
		location, err := m.desk.Location(ctx)
		if err != nil {
			t.Fatal(err)
		}
		name := "printer-" + string(m.kind)
		if err := w.operator.AddDevice(ctx, name, customer, "--mac", m.printer.MAC().String(), "--port", "9100", "--location", location.ID); err != nil {
			t.Fatal(err)
		}
		t.Run(string(m.kind), func(t *testing.T) {
			tunnel, err := user.AwaitOpen(ctx, name, device.JetDirectPort, "--route", "mapped")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("by %s %s after the agents", tunnel.Route, time.Since(began).Round(time.Millisecond))
			deliver(t, ctx, tunnel, m.raw, uint64(i), 1<<20)
			if err := user.Close(ctx, tunnel); err != nil {
				t.Error(err)
			}
			restarted := time.Now()
			if err := m.site.Reboot(netip.MustParsePrefix(fmt.Sprintf("45.10%d.0.7/24", 1+i))); err != nil {
				t.Fatal(err)
			}
			if tunnel, err = user.AwaitOpen(ctx, name, device.JetDirectPort, "--route", "mapped"); err != nil {
				t.Fatal(err)
			}
			t.Logf("again %s after the router's restart", time.Since(restarted).Round(time.Millisecond))
			deliver(t, ctx, tunnel, m.raw, uint64(i), 1<<20)
			if err := m.desk.Stop(); err != nil {
				t.Fatal(err)
			}
			rules, err := m.site.Router.Run(ctx, nil, "nft", "list", "chain", "inet", "nat", "prerouting_miniupnpd")
			if err != nil || rules.Code != 0 {
				t.Fatalf("%v %s", err, rules.Stderr)
			}
			if out := rules.Stdout; bytes.Contains(out, []byte("7700")) {
				t.Errorf("the agent's port is still open:\n%s", out)
			}
		})
	}
}
