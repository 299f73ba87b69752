//go:build linux && netlab

package device_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
)

// premises is a site with a desk and a printer host, and somebody outside.
type premises struct{ desk, printer, outside *lab.Host }

func newPremises(t *testing.T) premises {
	t.Helper()
	l, err := lab.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	site, err := l.Site(lab.SiteConfig{
		Name: "branch", Kind: lab.PortRestricted,
		WAN:  netip.MustParsePrefix("45.55.0.2/24"),
		LANs: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")},
	})
	if err != nil {
		t.Fatal(err)
	}
	host := func(h *lab.Host, err error) *lab.Host {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	return premises{
		desk:    host(site.Host("desk", netip.MustParseAddr("192.168.50.10"))),
		printer: host(site.Host("printer", netip.MustParseAddr("192.168.50.20"))),
		outside: host(l.Public("outside", netip.MustParsePrefix("45.22.0.2/24"))),
	}
}

// On its own LAN the printer passes the conformance test as measured on
// Debian 12: the one FAIL is the test's own.
func TestConformanceOnLAN(t *testing.T) {
	p := newPremises(t)
	printer, err := device.StartPrinter(t.Context(), p.printer, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer printer.Close()
	suite, err := device.PrepareSuite(t.Context(), p.desk, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := suite.Run(t.Context(), p.desk, printer.URI())
	if err != nil {
		t.Fatal(err)
	}
	if pass, fail := report.Count("PASS"), report.Count("FAIL"); pass != 141 || fail != 1 {
		t.Errorf("%d PASS, %d FAIL, want 141 and 1:\n%s", pass, fail, report)
	}

	document := make([]byte, 100_000)
	rand.Read(document)
	file := filepath.Join(t.TempDir(), "document.txt")
	if err := os.WriteFile(file, document, 0o644); err != nil {
		t.Fatal(err)
	}
	if held, err := printer.Holds(document); err != nil || held {
		t.Fatalf("the printer has the document before it was printed: %v, %v", held, err)
	}
	if err := suite.Print(t.Context(), p.desk, printer.URI(), file); err != nil {
		t.Fatal(err)
	}
	if held, err := printer.Holds(document); err != nil || !held {
		t.Errorf("the printed document does not lie in the spool: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if conn, err := p.outside.Dial(ctx, "tcp4", "45.55.0.2:631"); err == nil {
		conn.Close()
		t.Error("the printer is reached from outside its site")
	}
}

func TestJetDirectAndEcho(t *testing.T) {
	p := newPremises(t)
	raw, err := device.ServeJetDirect(p.printer, device.JetDirectPort)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	data := make([]byte, 1<<20)
	rand.Read(data)
	conn, err := p.desk.Dial(t.Context(), "tcp4", "192.168.50.20:9100")
	if err != nil {
		t.Fatal(err)
	}
	conn.Write(data)
	conn.Close()
	if job := <-raw.Jobs(); job.Err != nil || job.SHA256 != sha256.Sum256(data) || job.Bytes != int64(len(data)) {
		t.Errorf("job of %d bytes, %v", job.Bytes, job.Err)
	}

	loop, err := device.ServeEcho(p.printer, 7)
	if err != nil {
		t.Fatal(err)
	}
	conn, err = p.desk.Dial(t.Context(), "tcp4", "192.168.50.20:7")
	if err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("hello"))
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("echo %q, %v", got, err)
	}
	// Closing the device ends connections that are still open.
	idle, err := p.desk.Dial(t.Context(), "tcp4", "192.168.50.20:7")
	if err != nil {
		t.Fatal(err)
	}
	idle.Write([]byte("x"))
	one := make([]byte, 1)
	if _, err := io.ReadFull(idle, one); err != nil {
		t.Fatal(err)
	}
	if err := loop.Close(); err != nil {
		t.Error(err)
	}
	if _, err := idle.Read(one); err == nil {
		t.Error("the connection outlives its device")
	}
	idle.Close()
	conn.Close()
}

func TestTLSDevice(t *testing.T) {
	p := newPremises(t)
	s, pin, err := device.ServeTLS(p.printer, device.SecurePort)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		pin  device.Pin
		want string
	}{{pin, "job"}, {device.Pin{}, ""}} {
		conn, err := p.desk.Dial(t.Context(), "tcp4", "192.168.50.20:9443")
		if err != nil {
			t.Fatal(err)
		}
		secure := device.Secure(conn, c.pin)
		_, writeErr := secure.Write([]byte("job"))
		secure.Close()
		job := <-s.Jobs()
		if (writeErr == nil) != (c.want != "") || job.Bytes != int64(len(c.want)) {
			t.Errorf("pin %s: %v, a job of %d bytes", c.pin, writeErr, job.Bytes)
		}
	}
}
