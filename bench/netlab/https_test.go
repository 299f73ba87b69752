//go:build linux && netlab

package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// job is what is printed from places where hardly anything gets out.
const job = 50 << 20

// From a site that lets out nothing but TCP to port 443, and from one that lets
// out nothing but its proxy, a computer is enrolled, looks devices up and
// prints; and its own printer is printed on.
func TestHTTPSOnly(t *testing.T) {
	s := newStage(t, "")
	s.openLowPorts(t)
	branch := s.site(t, premises("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24"))
	printer := s.host(t, branch, "printer", "192.168.50.20")
	desk := s.agent(t, s.host(t, branch, "desk", "192.168.50.10"))
	far := serve(t, device.ServeJetDirect, printer, device.JetDirectPort)
	s.member(t, desk, customer)
	s.device(t, "printer", customer, printer, desk, fmt.Sprint(device.JetDirectPort))

	t.Run("only 443", func(t *testing.T) {
		bank := s.site(t, premises("bank", lab.HTTPSOnly, "45.66.0.2/24", "192.168.60.1/24"))
		a := s.agent(t, s.host(t, bank, "bank-desk", "192.168.60.10"))
		s.printsBothWays(t, bank, "bank", "192.168.60.20", a, desk, far)
	})
	t.Run("only a proxy", func(t *testing.T) {
		c := premises("plant", lab.ProxyOnly, "45.77.0.2/24", "192.168.70.1/24")
		c.Proxy = netip.MustParseAddr("192.168.70.5")
		plant := s.site(t, c)
		proxy, err := lab.StartProxy(s.host(t, plant, "plant-proxy", "192.168.70.5"), 3128, "anna", "p@ss word")
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Close()
		a := s.agent(t, s.host(t, plant, "plant-desk", "192.168.70.10"))
		s.needsProxy(t, a)
		a.Setenv("HTTPS_PROXY=" + proxy.URL())
		s.printsBothWays(t, plant, "plant", "192.168.70.20", a, desk, far)
		if proxy.Connects() == 0 {
			t.Error("the proxy has carried nothing")
		}
		t.Logf("the proxy made %d connections and refused %d requests", proxy.Connects(), proxy.Refused())
	})
}

// openLowPorts lets super-nodes, who are nobody, listen at 443 and 80.
func (s stage) openLowPorts(t *testing.T) {
	t.Helper()
	ctx := s.within(t, settle)
	for _, a := range s.supers {
		res, err := a.Host().Run(ctx, nil, "sh", "-c", "echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
		if err != nil || res.Code != 0 {
			t.Fatalf("low ports of %s: %v %s", a.Host().Name(), err, res.Stderr)
		}
		if err := a.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		if err := a.AwaitRole(ctx, "super"); err != nil {
			t.Fatal(err)
		}
	}
}

// needsProxy shows that nothing gets out otherwise, nor with another password.
func (s stage) needsProxy(t *testing.T, a *mesh.Agent) {
	t.Helper()
	for _, env := range [][]string{nil, {"HTTPS_PROXY=http://anna:wrong@192.168.70.5:3128"}} {
		ctx := s.within(t, settle)
		a.Setenv(env...)
		token, err := s.operator.Token(ctx, customer)
		if err != nil {
			t.Fatal(err)
		}
		err = a.Join(ctx, token)
		refused := (*mesh.CommandError)(nil)
		if !errors.As(err, &refused) {
			t.Fatalf("enrolled with %v: %v", env, err)
		}
		t.Logf("with %v: %s", env, refused.Stderr)
	}
}

// printsBothWays enrols an agent at a site, and has it print elsewhere and
// others print there.
func (s stage) printsBothWays(t *testing.T, site *lab.Site, name, addr string, a, other *mesh.Agent, far *device.Server) {
	t.Helper()
	printer := s.host(t, site, name+"-printer", addr)
	near := serve(t, device.ServeJetDirect, printer, device.JetDirectPort)
	began := time.Now()
	s.member(t, a, customer)
	s.device(t, name+"-printer", customer, printer, a, fmt.Sprint(device.JetDirectPort))
	if err := a.Await(s.within(t, settle), "to look up a device", func() error {
		return a.Lookup(s.within(t, settle), "printer")
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("enrolled, running and with an answer after %s", time.Since(began).Round(time.Millisecond))
	for _, way := range []struct {
		from   *mesh.Agent
		device string
		to     *device.Server
	}{{a, "printer", far}, {other, name + "-printer", near}} {
		tunnel := s.open(t, way.from, way.device, device.JetDirectPort)
		deliver(t, s.within(t, 2*settle), tunnel, way.to, uint64(len(way.device)), job)
		if err := way.from.Close(s.within(t, settle), tunnel); err != nil {
			t.Error(err)
		}
	}
}
