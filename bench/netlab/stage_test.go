//go:build linux && netlab

package netlab

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// fullVar asks for the long versions of what `make netlab` shows shortly.
const fullVar = "CULVERT_NETLAB_FULL"

// full tells whether there is time for everything.
func full() bool { return os.Getenv(fullVar) != "" }

// soon is the limit that a demand sets, where there is time for everything: on
// a machine of its own. Elsewhere what is slow is still no failure, as long as
// it comes at the first try.
func soon(limit time.Duration) time.Duration {
	if full() {
		return limit
	}
	return settle
}

// A stage is a world without premises: a test builds those that it is about.
type stage struct{ *world }

// newStage runs an operator and two super-nodes, and registers the domains.
func newStage(t *testing.T, conf string, domains ...string) stage {
	t.Helper()
	s := stage{emptyWorld(t, conf)}
	setup := s.within(t, settle)
	if err := s.startServers(setup); err != nil {
		t.Fatal(err)
	}
	for _, d := range domains {
		if err := s.operator.AddDomain(setup, d); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// site builds one with one LAN, or behind another site.
func (s stage) site(t *testing.T, c lab.SiteConfig) *lab.Site {
	t.Helper()
	site, err := s.lab.Site(c)
	if err != nil {
		t.Fatal(err)
	}
	return site
}

// premises is a site with one IPv4 LAN.
func premises(name string, kind lab.Kind, wan, lan string) lab.SiteConfig {
	return lab.SiteConfig{Name: name, Kind: kind, WAN: netip.MustParsePrefix(wan), LANs: []netip.Prefix{netip.MustParsePrefix(lan)}}
}

func (s stage) host(t *testing.T, site *lab.Site, name, addr string) *lab.Host {
	t.Helper()
	h, err := site.Host(name, netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (s stage) agent(t *testing.T, h *lab.Host) *mesh.Agent {
	t.Helper()
	a, err := mesh.NewAgent(program, h, s.dir, s.conf)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// member enrols an agent and runs it.
func (s stage) member(t *testing.T, a *mesh.Agent, domain string, flags ...string) {
	t.Helper()
	ctx := s.within(t, settle)
	if err := s.enrol(ctx, a, domain); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx, flags...); err != nil {
		t.Fatal(err)
	}
}

// device registers a device by its MAC at the agent's location.
func (s stage) device(t *testing.T, name, domain string, h *lab.Host, at *mesh.Agent, ports string) {
	t.Helper()
	ctx := s.within(t, settle)
	var where mesh.Location
	if err := at.Await(ctx, "to know its location", func() (err error) {
		where, err = at.Location(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.operator.AddDevice(ctx, name, domain, "--mac", h.MAC().String(), "--port", ports, "--location", where.ID); err != nil {
		t.Fatal(err)
	}
}

// open opens a tunnel that must come up within a settling mesh's time.
func (s stage) open(t *testing.T, from *mesh.Agent, device string, port int, flags ...string) mesh.Tunnel {
	t.Helper()
	began := time.Now()
	tunnel, err := from.AwaitOpen(s.within(t, settle), device, port, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s port %d by %s, up after %s", device, port, tunnel.Route, time.Since(began).Round(time.Millisecond))
	return tunnel
}
