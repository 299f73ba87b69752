//go:build linux && netlab

package netlab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

const (
	customer = "acme"
	hosters  = "hosters" // the super-nodes' domain
	// settle is how long a mesh may take to come up or to come back.
	settle = 2 * time.Minute
	// logTail is what a failed test shows of each process.
	logTail = 4 << 10
)

// A world is the topology of the package's doc with a mesh running in it.
type world struct {
	ctx  context.Context
	dir  string
	lab  *lab.Lab
	conf string // every agent's config.toml

	branch, home, office        *lab.Site
	printer, plotter            *lab.Host
	annexPrinter, annexImpostor *lab.Host

	operator     *mesh.Operator
	supers       [2]*mesh.Agent
	branchDesk   *mesh.Agent
	branchLaptop *mesh.Agent
	homeDesk     *mesh.Agent
	officeDesk   *mesh.Agent
}

// agents are the customer's.
func (w *world) agents() []*mesh.Agent {
	return []*mesh.Agent{w.branchDesk, w.branchLaptop, w.homeDesk, w.officeDesk}
}

// emptyWorld has a lab, which ends with the test, and nothing in it.
func emptyWorld(t *testing.T, conf string) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(suite)
	w := &world{ctx: ctx, dir: t.TempDir(), conf: conf}
	err := os.Chmod(filepath.Dir(w.dir), 0o755) // agents are nobody
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if w.lab, err = lab.New(ctx, filepath.Join(w.dir, "log")); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		if t.Failed() {
			for _, p := range w.lab.Processes() {
				t.Logf("---- %s wrote:\n%s", p, p.Tail(logTail))
			}
		}
		if err := w.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// newWorld builds the premises and runs the operator and the super-nodes.
// Nothing of the customer's runs yet: start does that.
func newWorld(t *testing.T, conf string) *world {
	t.Helper()
	w := emptyWorld(t, conf)
	began := time.Now()
	if err := w.build(); err != nil {
		t.Fatal(err)
	}
	if err := w.startServers(w.within(t, settle)); err != nil {
		t.Fatal(err)
	}
	t.Logf("premises, operator and super-nodes stand after %s", time.Since(began).Round(time.Millisecond))
	return w
}

// build makes hosts and agents' folders, and starts nothing.
func (w *world) build() error {
	var err error
	site := func(name string, kind lab.Kind, wan string, lans ...string) *lab.Site {
		if err != nil {
			return nil
		}
		c := lab.SiteConfig{Name: name, Kind: kind, WAN: netip.MustParsePrefix(wan)}
		for _, l := range lans {
			c.LANs = append(c.LANs, netip.MustParsePrefix(l))
		}
		var s *lab.Site
		s, err = w.lab.Site(c)
		return s
	}
	host := func(s *lab.Site, name, addr string) *lab.Host {
		if err != nil {
			return nil
		}
		var h *lab.Host
		h, err = s.Host(name, netip.MustParseAddr(addr))
		return h
	}
	agent := func(h *lab.Host) *mesh.Agent {
		if err != nil {
			return nil
		}
		var a *mesh.Agent
		a, err = mesh.NewAgent(program, h, w.dir, w.conf)
		return a
	}
	w.branch = site("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24", "192.168.60.1/24")
	w.home = site("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24")
	w.office = site("office", lab.Open, "45.77.0.2/24", "45.44.0.1/24")
	w.printer = host(w.branch, "printer", "192.168.50.20")
	w.annexPrinter = host(w.branch, "annex-printer", "192.168.60.20")
	w.annexImpostor = host(w.branch, "annex-impostor", "192.168.60.21")
	w.plotter = host(w.office, "plotter", "45.44.0.20")
	w.branchDesk = agent(host(w.branch, "branch-desk", "192.168.50.10"))
	w.branchLaptop = agent(host(w.branch, "branch-laptop", "192.168.50.11"))
	w.homeDesk = agent(host(w.home, "home-desk", "192.168.1.10"))
	w.officeDesk = agent(host(w.office, "office-desk", "45.44.0.10"))
	return err
}

// startServers runs the operator and the super-nodes.
func (w *world) startServers(ctx context.Context) error {
	for i, addr := range []string{"45.22.0.2/24", "45.33.0.2/24"} {
		h, err := w.lab.Public(fmt.Sprintf("super-%d", i+1), netip.MustParsePrefix(addr))
		if err != nil {
			return err
		}
		if w.supers[i], err = mesh.NewAgent(program, h, w.dir, w.conf); err != nil {
			return err
		}
	}
	h, err := w.lab.Public("operator", netip.MustParsePrefix("45.11.0.2/24"))
	if err != nil {
		return err
	}
	if w.operator, err = mesh.StartOperator(ctx, program, h, w.dir); err != nil {
		return err
	}
	for _, domain := range []string{customer, hosters} {
		if err := w.operator.AddDomain(ctx, domain); err != nil {
			return err
		}
	}
	if err := w.each(ctx, w.supers[:], func(ctx context.Context, a *mesh.Agent) error {
		if err := w.enrol(ctx, a, hosters); err != nil {
			return err
		}
		return a.Start(ctx, "--super")
	}); err != nil {
		return err
	}
	if err := w.operator.AwaitSuperNodes(ctx, len(w.supers)); err != nil {
		return err
	}
	// Assigned is not yet ready: each fetches what the others have before it answers.
	return w.each(ctx, w.supers[:], func(ctx context.Context, a *mesh.Agent) error { return a.AwaitRole(ctx, "super") })
}

func (w *world) enrol(ctx context.Context, a *mesh.Agent, domain string) error {
	token, err := w.operator.Token(ctx, domain)
	if err != nil {
		return err
	}
	return a.Join(ctx, token)
}

// each does the same with several agents at once.
func (w *world) each(ctx context.Context, agents []*mesh.Agent, do func(context.Context, *mesh.Agent) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, a := range agents {
		g.Go(func() error { return do(ctx, a) })
	}
	return g.Wait()
}

// start enrols the customer's agents, runs them, and registers the devices.
// The laptop and the desk at home serve no devices.
func (w *world) start(t *testing.T) {
	t.Helper()
	began := time.Now()
	ctx, done := context.WithTimeout(w.ctx, settle)
	defer done()
	err := w.each(ctx, w.agents(), func(ctx context.Context, a *mesh.Agent) error {
		if err := w.enrol(ctx, a, customer); err != nil {
			return err
		}
		if a == w.branchLaptop || a == w.homeDesk {
			return a.Start(ctx, "--no-tunnel")
		}
		return a.Start(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	branch, err := w.branchDesk.Location(ctx)
	if err != nil {
		t.Fatal(err)
	}
	office, err := w.officeDesk.Location(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name string
		what []string
	}{
		{"printer", []string{"--mac", w.printer.MAC().String(), "--port", "631,9100", "--location", branch.ID}},
		{"annex-printer", []string{"--address", w.annexPrinter.Addr().String(), "--port", "9100", "--location", branch.ID}},
		{"plotter", []string{"--mac", w.plotter.MAC().String(), "--port", "9100", "--location", office.ID}},
	} {
		if err := w.operator.AddDevice(ctx, d.name, customer, d.what...); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("agents run and devices are registered after %s more", time.Since(began).Round(time.Millisecond))
}

// within is a context for one step of a test.
func (w *world) within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, d)
	t.Cleanup(cancel)
	return ctx
}

// write makes a file in the world's folder.
func (w *world) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
