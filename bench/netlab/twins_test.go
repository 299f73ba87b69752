//go:build linux && netlab

package netlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// A twin is one of two customers whose networks look the same.
type twin struct {
	domain string
	desk   *mesh.Agent // beside the device
	user   *mesh.Agent // elsewhere
	device *device.Server
}

// Two customers have the same prefix, a router with the same MAC, and a printer
// with the same name, address and MAC. Whoever asks for his own gets his own.
func TestTwinCustomers(t *testing.T) {
	const rivals = "globex"
	opens := 20 // of each customer
	if full() {
		opens = 500
	}
	s := newStage(t, "", rivals)
	router, mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	var twins []twin
	for i, domain := range []string{customer, rivals} {
		c := premises(domain, lab.PortRestricted, fmt.Sprintf("45.%d.0.2/24", 55+i), "192.168.50.1/24")
		c.MAC = router
		site := s.site(t, c)
		printer, err := site.HostWithMAC(domain+"-printer", mac, netip.MustParseAddr("192.168.50.20"))
		if err != nil {
			t.Fatal(err)
		}
		away := s.site(t, premises(domain+"-home", lab.PortRestricted, fmt.Sprintf("45.%d.0.2/24", 65+i), "192.168.50.1/24"))
		w := twin{
			domain: domain,
			desk:   s.agent(t, s.host(t, site, domain+"-desk", "192.168.50.10")),
			user:   s.agent(t, s.host(t, away, domain+"-user", "192.168.50.10")),
			device: serve(t, device.ServeJetDirect, printer, device.JetDirectPort),
		}
		s.member(t, w.desk, domain)
		s.member(t, w.user, domain, "--no-tunnel")
		s.device(t, "printer", domain, printer, w.desk, fmt.Sprint(device.JetDirectPort))
		twins = append(twins, w)
	}
	var places []string
	for _, w := range twins {
		l, err := w.desk.Location(s.within(t, settle))
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, l.ID)
	}
	if places[0] == places[1] {
		t.Errorf("both customers' networks are location %s", places[0])
	}
	for _, w := range twins {
		tunnel := s.open(t, w.user, "printer", device.JetDirectPort)
		if err := w.user.Close(s.within(t, settle), tunnel); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	crossed := 0
	for n := range opens {
		for i, w := range twins {
			if !s.ownPrinter(t, w, twins[1-i], uint64(2*n+i)) {
				crossed++
			}
		}
	}
	t.Logf("%d of %d tunnels led to the other customer, in %s", crossed, 2*opens, time.Since(began).Round(time.Millisecond))
	if crossed > 0 {
		t.Error("there are cross matches")
	}
}

// ownPrinter opens a new tunnel, prints a job of its own and looks where it
// comes out.
func (s stage) ownPrinter(t *testing.T, w, other twin, job uint64) bool {
	t.Helper()
	ctx := s.within(t, settle)
	tunnel, err := w.user.AwaitOpen(ctx, "printer", device.JetDirectPort)
	if err != nil {
		t.Fatal(err)
	}
	id, err := w.desk.NodeID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.deliverSmall(t, ctx, tunnel, w.device, job)
	if err := w.user.Close(ctx, tunnel); err != nil {
		t.Error(err)
	}
	for {
		select {
		case job := <-other.device.Jobs():
			if job.Bytes == 0 {
				continue // its own agent has looked whether it answers
			}
			t.Errorf("the printer of %s has a job of %d bytes from %s", other.domain, job.Bytes, w.domain)
			return false
		default:
		}
		if tunnel.TunnelNode != id {
			t.Errorf("the tunnel of %s ends at %s, which is not its desk", w.domain, tunnel.TunnelNode)
		}
		return tunnel.TunnelNode == id
	}
}

// deliverSmall is deliver without a line in the log for each.
func (s stage) deliverSmall(t *testing.T, ctx context.Context, tunnel mesh.Tunnel, to *device.Server, seed uint64) {
	t.Helper()
	data := payload(t, seed, 1<<10)
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := send(ctx, conn, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if job := nextJob(t, ctx, to); job.SHA256 != sha256.Sum256(data) {
		t.Fatalf("%d other bytes arrived (%v)", job.Bytes, job.Err)
	}
}
