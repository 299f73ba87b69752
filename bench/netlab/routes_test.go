//go:build linux && netlab

package netlab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

// questions is how many SNMP round trips each route is asked for.
const questions = 20

// A service is a stage with a device of several services and a user for each
// route to it.
type service struct {
	stage
	branch *lab.Site
	device *lab.Host
	users  map[string]*mesh.Agent // by route
}

// newService puts a printer that also speaks SNMP and films itself behind a
// router that maps ports, and users where each route is the one to be had.
func newService(t *testing.T) service {
	t.Helper()
	s := service{stage: newStage(t, ""), users: make(map[string]*mesh.Agent)}
	s.branch = s.site(t, premises("branch", lab.UPnP2, "45.55.0.2/24", "192.168.50.1/24"))
	home := s.site(t, premises("home", lab.PortRestricted, "45.66.0.2/24", "192.168.1.1/24"))
	office := s.site(t, premises("office", lab.Open, "45.77.0.2/24", "45.44.0.1/24"))
	s.device = s.host(t, s.branch, "device", "192.168.50.20")
	desk := s.agent(t, s.host(t, s.branch, "desk", "192.168.50.10"))
	laptop := s.agent(t, s.host(t, s.branch, "laptop", "192.168.50.11"))
	away := s.agent(t, s.host(t, home, "home-desk", "192.168.1.10"))
	open := s.agent(t, s.host(t, office, "office-desk", "45.44.0.10"))
	s.member(t, desk, customer)
	for _, a := range []*mesh.Agent{laptop, away, open} {
		s.member(t, a, customer, "--no-tunnel")
	}
	s.stage.device(t, "device", customer, s.device, desk,
		fmt.Sprintf("%d,%d/udp,%d", device.IPPPort, device.SNMPPort, device.RTSPPort))
	s.users["lan"], s.users["direct"] = laptop, open
	s.users["mapped"], s.users["punched"], s.users["relayed"] = away, away, away
	return s
}

func routeNames() []string { return []string{"lan", "direct", "mapped", "punched", "relayed"} }

// What a device says by itself, it says by every route: a conformance test over
// TCP, questions over UDP, and a film.
func TestDevicesByEveryRoute(t *testing.T) {
	s := newService(t)
	ctx := s.within(t, settle)
	printer, err := device.StartPrinter(ctx, s.device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer printer.Close()
	agent, err := device.StartSNMP(ctx, s.device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	camera, err := device.StartCamera(ctx, s.device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer camera.Close()
	near := s.users["lan"].Host()
	suite, err := device.PrepareSuite(ctx, near, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	itself, err := suite.Run(s.within(t, settle), near, printer.URI())
	if err != nil {
		t.Fatal(err)
	}
	if itself.Count("PASS") < 100 {
		t.Fatalf("the reference is worth nothing:\n%s", itself)
	}
	variables, err := device.WalkSNMP(ctx, near, fmt.Sprintf("%s:%d", s.device.Addr(), device.SNMPPort))
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range routeNames() {
		from := s.users[route]
		t.Run("SNMP by "+route, func(t *testing.T) { s.asks(t, from, route, variables) })
		t.Run("film by "+route, func(t *testing.T) {
			tunnel := s.by(t, from, device.RTSPPort, route)
			s.plays(t, from, tunnel, 3*time.Second)
		})
		if !full() && route != "punched" {
			continue
		}
		t.Run("ipptool by "+route, func(t *testing.T) {
			tunnel := s.by(t, from, device.IPPPort, route)
			report, err := suite.Run(s.within(t, 2*settle), from.Host(), device.URI(tunnel.Local))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d PASS, %d FAIL; by itself %d PASS, %d FAIL", report.Count("PASS"), report.Count("FAIL"), itself.Count("PASS"), itself.Count("FAIL"))
			if diff := itself.Diff(report); len(diff) > 0 {
				t.Errorf("not what the device says by itself:\n%s", strings.Join(diff, "\n"))
			}
		})
	}
}

// by opens a tunnel that must take the route.
func (s service) by(t *testing.T, from *mesh.Agent, port int, route string) mesh.Tunnel {
	t.Helper()
	tunnel := s.open(t, from, "device", port, "--route", route)
	if tunnel.Route != route {
		t.Fatalf("the route is %s, asked was %s", tunnel.Route, route)
	}
	return tunnel
}

// asks has questions answered over UDP, one after the other and many at once.
func (s service) asks(t *testing.T, from *mesh.Agent, route string, variables int) {
	ctx := s.within(t, settle)
	tunnel, err := from.AwaitOpenUDP(ctx, "device", device.SNMPPort, "--route", route)
	if err != nil {
		t.Fatal(err)
	}
	if tunnel.Route != route {
		t.Fatalf("the route is %s, asked was %s", tunnel.Route, route)
	}
	var slowest time.Duration
	for range questions {
		took, err := device.GetSNMP(ctx, from.Host(), tunnel.Local, settle/2)
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, took)
	}
	n, err := device.WalkSNMP(ctx, from.Host(), tunnel.Local)
	if err != nil || n != variables {
		t.Errorf("a walk found %d variables, by itself the device has %d (%v)", n, variables, err)
	}
	t.Logf("%d round trips, the slowest with its command in %s", questions, slowest.Round(time.Millisecond))
}

// plays shows the film, whole, without a complaint and without falling behind.
func (s service) plays(t *testing.T, from *mesh.Agent, tunnel mesh.Tunnel, much time.Duration) {
	t.Helper()
	v, err := device.Play(s.within(t, 2*much+settle), from.Host(), device.StreamURI(tunnel.Local), much)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v)
	want := int(much.Seconds() * device.FrameRate)
	if v.Frames < want-1 || v.Shown < much-2*time.Second/device.FrameRate || len(v.Errors) > 0 {
		t.Errorf("%s, want %d frames of %s: %v", v, want, much, v.Errors)
	}
	if late := v.Took - much; full() && late > 5*time.Second {
		t.Errorf("the film of %s took %s", much, v.Took)
	}
}

// A film plays through a punched route while one packet in twenty is lost, in
// each direction: 60 s of it where there is time for everything.
func TestFilmUnderLoss(t *testing.T) {
	const loss = 5 // percent
	much := 10 * time.Second
	if full() {
		much = time.Minute
	}
	s := newService(t)
	camera, err := device.StartCamera(s.within(t, settle), s.device, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer camera.Close()
	from := s.users["punched"]
	tunnel := s.by(t, from, device.RTSPPort, "punched")
	if err := s.branch.Loss(loss); err != nil {
		t.Fatal(err)
	}
	s.plays(t, from, tunnel, much)
	if still := s.routes(t, from, []mesh.Tunnel{tunnel}); still[0] != "punched" {
		t.Errorf("the route is now %s", still[0])
	}
}
