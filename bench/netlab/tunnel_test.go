//go:build linux && netlab

package netlab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// bulk is what goes through port 9100 by every route.
const bulk = 200 << 20

// One mesh, and everything that a printer behind a NAT is asked from behind
// another one.
func TestTunnels(t *testing.T) {
	w := newWorld(t, "")
	printer, err := device.StartPrinter(w.within(t, settle), w.printer, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	raw := serve(t, device.ServeJetDirect, w.printer, device.JetDirectPort)
	plotter := serve(t, device.ServeJetDirect, w.plotter, device.JetDirectPort)
	w.start(t)

	t.Run("ipptool says the same through the tunnel as on the LAN", func(t *testing.T) {
		w.conformance(t, printer)
	})
	t.Run("a printed file arrives byte for byte", func(t *testing.T) {
		w.print(t, printer)
	})
	for i, r := range []struct {
		route, device string
		from          *mesh.Agent
		to            *device.Server
	}{
		{"lan", "printer", w.branchLaptop, raw},
		{"direct", "plotter", w.homeDesk, plotter},
		{"relayed", "printer", w.homeDesk, raw},
		// An open port at the asking end will do as well: the device's agent dials.
		{"direct", "printer", w.officeDesk, raw},
	} {
		t.Run("200 MB by "+r.route+" to the "+r.device, func(t *testing.T) {
			ctx := w.within(t, 2*settle)
			tunnel, err := r.from.AwaitOpen(ctx, r.device, device.JetDirectPort, "--route", r.route)
			if err != nil {
				t.Fatal(err)
			}
			if tunnel.Route != r.route {
				t.Fatalf("the route is %s, asked was %s", tunnel.Route, r.route)
			}
			deliver(t, ctx, tunnel, r.to, uint64(i), bulk)
			if err := r.from.Close(ctx, tunnel); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("another subnet by address", w.anotherSubnet)
}

// conformance compares what ipptool says on the device's own LAN and through a
// tunnel between two NATs.
func (w *world) conformance(t *testing.T, printer *device.Printer) {
	ctx := w.within(t, 2*settle)
	suite, err := device.PrepareSuite(ctx, w.homeDesk.Host(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	near, err := suite.Run(ctx, w.branchLaptop.Host(), printer.URI())
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := w.homeDesk.AwaitOpen(ctx, "printer", device.IPPPort)
	if err != nil {
		t.Fatal(err)
	}
	far, err := suite.Run(ctx, w.homeDesk.Host(), device.URI(tunnel.Local))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("on the LAN %d PASS, %d FAIL; by %s %d PASS, %d FAIL", near.Count("PASS"), near.Count("FAIL"),
		tunnel.Route, far.Count("PASS"), far.Count("FAIL"))
	if near.Count("PASS") < 100 {
		t.Errorf("the reference is worth nothing:\n%s", near)
	}
	if diff := near.Diff(far); len(diff) > 0 {
		t.Errorf("LAN and tunnel differ:\n%s", strings.Join(diff, "\n"))
	}
}

func (w *world) print(t *testing.T, printer *device.Printer) {
	ctx := w.within(t, settle)
	suite, err := device.PrepareSuite(ctx, w.homeDesk.Host(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	document := payload(t, 99, 1<<20)
	tunnel, err := w.homeDesk.AwaitOpen(ctx, "printer", device.IPPPort)
	if err != nil {
		t.Fatal(err)
	}
	if err := suite.Print(ctx, w.homeDesk.Host(), device.URI(tunnel.Local), w.write(t, "document.txt", document)); err != nil {
		t.Fatal(err)
	}
	if held, err := printer.Holds(document); err != nil || !held {
		t.Errorf("the document does not lie in the printer's spool as it was sent: %v", err)
	}
}

// annexConsent lets an agent serve the printer on the other subnet.
const annexConsent = `
[[consent]]
device = "annex-printer"
ports = ["9100"]
`

// A fixed address on another subnet is no proof of what stands there: it is
// refused until the agent consents, unless the device shows the pinned key.
func (w *world) anotherSubnet(t *testing.T) {
	annex := serve(t, device.ServeJetDirect, w.annexPrinter, device.JetDirectPort)
	ctx := w.within(t, 2*settle)
	w.awaitRefusal(t, ctx, "annex-printer", device.JetDirectPort, "consent")
	select {
	case job := <-annex.Jobs():
		t.Errorf("the device was dialled without consent: %+v", job)
	default:
	}

	w.pinned(t)

	if err := w.branchDesk.Configure(w.conf + annexConsent); err != nil {
		t.Fatal(err)
	}
	if err := w.branchDesk.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	tunnel, err := w.homeDesk.AwaitOpen(ctx, "annex-printer", device.JetDirectPort)
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, ctx, tunnel, annex, 7, 1<<20)
	// The laptop itself has no consent: its colleague's agent serves it.
	tunnel, err = w.branchLaptop.AwaitOpen(ctx, "annex-printer", device.JetDirectPort, "--route", "lan")
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, ctx, tunnel, annex, 9, bulk)
}

// pinned opens one device that has the registered key and one that has not.
func (w *world) pinned(t *testing.T) {
	ctx := w.within(t, settle)
	secure, pin, err := device.ServeTLS(w.annexPrinter, device.SecurePort)
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	impostor, _, err := device.ServeTLS(w.annexImpostor, device.SecurePort)
	if err != nil {
		t.Fatal(err)
	}
	defer impostor.Close()
	location, err := w.branchDesk.Location(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*lab.Host{"annex-pinned": w.annexPrinter, "annex-impostor": w.annexImpostor} {
		if err := w.operator.AddDevice(ctx, name, customer, "--address", h.Addr().String(), "--port", fmt.Sprint(device.SecurePort),
			"--location", location.ID, "--tls-key", pin.String()); err != nil {
			t.Fatal(err)
		}
		if err := w.homeDesk.Await(ctx, "to see "+name, func() error { return w.homeDesk.Lookup(ctx, name) }); err != nil {
			t.Fatal(err)
		}
	}
	tunnel, err := w.homeDesk.AwaitOpen(ctx, "annex-pinned", device.SecurePort)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	deliverOver(t, ctx, device.Secure(conn, pin), tunnel.Route, secure, 8, 1<<20)

	w.awaitRefusal(t, ctx, "annex-impostor", device.SecurePort, "key")
}

// awaitRefusal wants a device never to be opened, and the reason to name the
// word as soon as there is no other one, such as an answer that took too long.
func (w *world) awaitRefusal(t *testing.T, ctx context.Context, name string, port int, word string) {
	t.Helper()
	if err := w.homeDesk.Await(ctx, "to be refused "+name, func() error {
		_, err := w.homeDesk.Open(ctx, name, port)
		if err == nil {
			t.Errorf("%s is opened; want a refusal that names the %s", name, word)
			return nil
		}
		refused := (*mesh.CommandError)(nil)
		if !errors.As(err, &refused) || refused.Code != 1 || !strings.Contains(refused.Stderr, word) {
			return fmt.Errorf("%w; want exit code 1 and a reason that names the %s", err, word)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// serve runs a device for as long as the test.
func serve(t *testing.T, run func(*lab.Host, int) (*device.Server, error), h *lab.Host, port int) *device.Server {
	t.Helper()
	s, err := run(h, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
