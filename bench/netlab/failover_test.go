//go:build linux && netlab

package netlab

import (
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// lookupAfterKill and tunnelAfterKill are by when the first of them must have
// come after a loss.
var (
	lookupAfterKill = soon(3 * time.Second)
	tunnelAfterKill = soon(5 * time.Second)
)

// The super-node that relays and answers is gone: the next lookup, a new
// relayed tunnel and a new connection through the old one find the other.
func TestSuperNodeGone(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		superNodeGone(t, func(a *mesh.Agent) error {
			a.Kill()
			return nil
		})
	})
	// Nobody is told: neither a reset nor an ICMP message comes back.
	t.Run("unplugged", func(t *testing.T) {
		superNodeGone(t, func(a *mesh.Agent) error { return a.Host().Unplug() })
	})
}

func superNodeGone(t *testing.T, remove func(*mesh.Agent) error) {
	w := newWorld(t, "")
	serve(t, device.ServeEcho, w.printer, device.JetDirectPort)
	w.start(t)
	tunnel, err := w.homeDesk.AwaitOpen(w.within(t, settle), "printer", device.JetDirectPort, "--route", "relayed")
	if err != nil {
		t.Fatal(err)
	}
	used := w.superInUse(t, tunnel)

	name := used.Host().Name()
	if err := remove(used); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := w.homeDesk.Lookup(w.within(t, lookupAfterKill), "printer"); err != nil {
		t.Fatalf("the first lookup since %s is gone: %v", name, err)
	}
	t.Logf("%s is gone; the next lookup took %s", name, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	ctx := w.within(t, tunnelAfterKill)
	fresh, err := w.homeDesk.Open(ctx, "printer", device.JetDirectPort, "--route", "relayed")
	if err != nil {
		t.Fatalf("the first new tunnel since %s is gone: %v", name, err)
	}
	for _, through := range []struct {
		which  string
		tunnel mesh.Tunnel
	}{{"new", fresh}, {"old", tunnel}} {
		talk, err := converse(w.within(t, tunnelAfterKill), through.tunnel)
		if err != nil {
			t.Fatalf("through the %s tunnel: %v", through.which, err)
		}
		t.Logf("an answer through the %s tunnel took %s", through.which, time.Since(began).Round(time.Millisecond))
		if err := talk.close(); err != nil {
			t.Error(err)
		}
		began = time.Now()
	}
}

// A home router forgets a UDP mapping soon. A tunnel-node that nobody asked
// anything for longer is found all the same, since it keeps two open.
func TestNATForgets(t *testing.T) {
	const (
		forgets = 25 * time.Second
		quiet   = 2 * forgets
	)
	w := newWorld(t, "")
	for _, s := range []*lab.Site{w.branch, w.home} {
		if err := s.ForgetUDP(forgets); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, device.ServeEcho, w.printer, device.JetDirectPort)
	w.start(t)
	heard := make(chan struct{}, 1)
	c, err := w.supers[0].Host().Capture("eth0", func(p lab.Packet) bool {
		if p.From.Addr() == w.branch.WAN && p.UDP(mesh.MessagePort) {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < quiet; {
		select {
		case <-heard:
		case <-time.After(settle):
			t.Fatal("the branch has fallen silent")
		}
	}
	if _, err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx := w.within(t, tunnelAfterKill)
	tunnel, err := w.homeDesk.Open(ctx, "printer", device.JetDirectPort, "--route", "relayed")
	if err != nil {
		t.Fatal(err)
	}
	talk, err := converse(ctx, tunnel)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after %s without a tunnel one took %s", quiet, time.Since(began).Round(time.Millisecond))
	if err := talk.close(); err != nil {
		t.Error(err)
	}
}

// superInUse is the super-node through which the tunnel's bytes go.
func (w *world) superInUse(t *testing.T, tunnel mesh.Tunnel) *mesh.Agent {
	t.Helper()
	const said = 1 << 16
	var captures [len(w.supers)]*lab.Capture
	for i, s := range w.supers {
		c, err := s.Host().Capture("eth0", lab.Packet.TCP)
		if err != nil {
			t.Fatal(err)
		}
		captures[i] = c
	}
	talk, err := converse(w.within(t, settle), tunnel)
	if err != nil {
		t.Fatal(err)
	}
	if err := talk.say(w.within(t, settle), strings.Repeat("relayed ", said/8)); err != nil {
		t.Fatal(err)
	}
	if err := talk.close(); err != nil {
		t.Error(err)
	}
	var used *mesh.Agent
	for i, c := range captures {
		packets, err := c.Stop()
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, p := range packets {
			bytes += len(p.Payload)
		}
		if bytes >= said {
			used = w.supers[i]
		}
	}
	if used == nil {
		t.Fatal("the tunnel goes through no super-node")
	}
	return used
}

// The operator is stopped for good. Lookups, existing and new tunnels go on
// while one node after the other is started again.
func TestOperatorStopped(t *testing.T) {
	w := newWorld(t, "")
	serve(t, device.ServeEcho, w.printer, device.JetDirectPort)
	serve(t, device.ServeEcho, w.plotter, device.JetDirectPort)
	w.start(t)
	ctx := w.within(t, settle)
	lasting, err := w.homeDesk.AwaitOpen(ctx, "printer", device.JetDirectPort, "--route", "relayed", "--persist")
	if err != nil {
		t.Fatal(err)
	}
	talk, err := converse(ctx, lasting)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.operator.Stop(); err != nil {
		t.Fatal(err)
	}

	w.goesOn(t, "the operator is stopped")
	w.restart(t, w.officeDesk, w.branchLaptop)
	w.goesOn(t, "agents outside the tunnel were restarted")
	if err := talk.say(w.within(t, settle), "still here"); err != nil {
		t.Errorf("a tunnel of before: %v", err)
	}
	if err := talk.close(); err != nil {
		t.Error(err)
	}
	for _, s := range w.supers {
		w.restart(t, s)
		w.goesOn(t, s.Host().Name()+" was restarted")
	}
	w.branchDesk.Kill()
	w.homeDesk.Kill()
	w.restart(t, w.branchDesk, w.homeDesk)
	w.goesOn(t, "both ends were killed and started")

	ctx = w.within(t, settle)
	err = w.homeDesk.Await(ctx, "to restore its lasting tunnel at "+lasting.Local, func() error {
		talk, err := converse(ctx, lasting)
		if err != nil {
			return err
		}
		return talk.close()
	})
	if err != nil {
		t.Error(err)
	}
}

func (w *world) restart(t *testing.T, agents ...*mesh.Agent) {
	t.Helper()
	for _, a := range agents {
		if err := a.Restart(w.within(t, settle)); err != nil {
			t.Fatal(err)
		}
	}
}

// goesOn looks up a device and opens new tunnels, relayed and direct.
func (w *world) goesOn(t *testing.T, since string) {
	t.Helper()
	began := time.Now()
	ctx := w.within(t, settle)
	if err := w.homeDesk.Await(ctx, "to look up", func() error { return w.homeDesk.Lookup(ctx, "printer") }); err != nil {
		t.Fatalf("since %s: %v", since, err)
	}
	for _, to := range []struct{ device, route string }{{"printer", "relayed"}, {"plotter", "direct"}} {
		tunnel, err := w.homeDesk.AwaitOpen(ctx, to.device, device.JetDirectPort, "--route", to.route)
		if err != nil {
			t.Fatalf("since %s: %v", since, err)
		}
		talk, err := converse(ctx, tunnel)
		if err != nil {
			t.Fatalf("since %s, through a new tunnel by %s: %v", since, to.route, err)
		}
		if err := talk.close(); err != nil {
			t.Error(err)
		}
		if err := w.homeDesk.Close(ctx, tunnel); err != nil {
			t.Error(err)
		}
	}
	t.Logf("since %s: a lookup and two new tunnels in %s", since, time.Since(began).Round(time.Millisecond))
}
