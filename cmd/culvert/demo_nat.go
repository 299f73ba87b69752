package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"culvert/node/localapi"
)

// demoNATLimit ends a demo between NATs that hangs.
const demoNATLimit = 3 * time.Minute

// demoUpgrade is how long a tunnel may take to find its best route, and the print job that goes over it.
const demoUpgrade = 30 * time.Second

// A demoPlace is one of the demo's computers and what it does there.
type demoPlace struct {
	node   string // of the mesh; also its network namespace
	domain string
	args   []string
}

// demoPlaces are the nodes between the NATs. Super-nodes belong to another company than the one that prints.
func demoPlaces() []demoPlace {
	return []demoPlace{
		{"super-1", demoForeign, []string{"--super", "--no-tunnel"}},
		{"super-2", demoForeign, []string{"--super", "--no-tunnel"}},
		{"branch", demoCompany, nil},
		{"office", demoCompany, nil},
		{"home", demoCompany, []string{"--no-tunnel"}},
	}
}

const demoMap = `
    operator 45.11.0.2    super-1 45.22.0.2    super-2 45.33.0.2        public addresses
         └──────────────────────┬──────────────────────┘
           ┌────────────────────┼──────────────────────┐
   branch 45.55.0.2      home 45.66.0.2         office 45.77.0.2        routers that translate
     192.168.50.0/24       192.168.1.0/24         192.168.70.0/24       (port-restricted; the office's
     printer-1, agent      agent                  printer-2, agent       speaks UPnP, NAT-PMP and PCP)
`

// natStory prints from home at a printer in the branch, through both routers, and at one in the office, by its router's mapping.
func (d *demo) natStory(ctx context.Context) error {
	net, err := buildDemoNet(ctx, d.dir)
	if err != nil {
		return err
	}
	defer net.stop()
	d.in = net.prefix
	fmt.Fprint(d.out, demoMap+"\n")
	d.say("network", "stands: %s", net.summary())
	if err := d.startNATOperator(ctx); err != nil {
		return err
	}
	if err := d.enrolNAT(ctx); err != nil {
		return err
	}
	ids, err := d.runNAT(ctx)
	if err != nil {
		return err
	}
	for _, p := range []struct{ printer, node string }{{"printer-1", "branch"}, {"printer-2", "office"}} {
		dev, err := d.listenIn(net, p.printer)
		if err != nil {
			return err
		}
		defer dev.stop()
		if err := d.registerByMAC(ctx, p.printer, net.mac(p.printer), ids[p.node]); err != nil {
			return err
		}
	}
	if err := d.netchecks(ctx); err != nil {
		return err
	}
	d.say("network", "nobody outside can call in: a router lets in only whoever its computer wrote to. So both ends write at the same moment")
	if err := d.printFrom(ctx, net, "printer-1", "punched"); err != nil {
		return err
	}
	if net.maps {
		d.say("network", "the office's router opens a port when the agent there asks for it: that is better still")
	}
	want := "mapped"
	if !net.maps {
		want = "punched"
	}
	return d.printFrom(ctx, net, "printer-2", want)
}

func (d *demo) startNATOperator(ctx context.Context) error {
	if _, err := d.run(ctx, "operator", "operator", "init", "--name", "demo", "--advertise", "45.11.0.2:7743"); err != nil {
		return fmt.Errorf("operator init: %w", err)
	}
	p, err := d.start("operator", "operator", "run", "--https", "45.11.0.2:7743")
	if err != nil {
		return err
	}
	if err := d.untilReady(ctx, p, func(localapi.Status) bool { return true }); err != nil {
		return err
	}
	d.say("operator", "is up at 45.11.0.2; it carries no traffic")
	return nil
}

func (d *demo) enrolNAT(ctx context.Context) error {
	for _, domain := range []string{demoCompany, demoForeign} {
		if _, err := d.run(ctx, "operator", "operator", "domain", "add", domain); err != nil {
			return fmt.Errorf("domain add: %w", err)
		}
	}
	run := d.run // shown for the first, the same and silent for the others
	for _, p := range demoPlaces() {
		token, err := run(ctx, "operator", "operator", "token", "create", "--domain", p.domain)
		if err != nil {
			return fmt.Errorf("token create: %w", err)
		}
		if _, err := run(ctx, p.node, "join", token, "--name", p.node); err != nil {
			return fmt.Errorf("join %s: %w", p.node, err)
		}
		run = func(ctx context.Context, name string, args ...string) (string, error) {
			return d.quiet(ctx, name, append(args, "--data", d.data(name))...)
		}
	}
	d.say("operator", "enrolled all: two super-nodes of %s, and of %s the agents branch, office and home", demoForeign, demoCompany)
	return nil
}

// runNAT starts the nodes and returns their IDs by name.
func (d *demo) runNAT(ctx context.Context) (map[string]string, error) {
	ids := make(map[string]string)
	for _, n := range demoPlaces() {
		p, err := d.start(n.node, append([]string{"run"}, n.args...)...)
		if err != nil {
			return nil, err
		}
		super := strings.HasPrefix(n.node, "super")
		var m localapi.Membership
		if err := d.untilReady(ctx, p, func(s localapi.Status) bool {
			m = firstMembership(s)
			answered := slices.ContainsFunc(m.SuperNodes, func(n localapi.SuperNode) bool { return n.Milliseconds > 0 })
			return m.State == "active" && answered && (!super || slices.Contains(s.Roles, "super"))
		}); err != nil {
			return nil, err
		}
		ids[n.node] = m.NodeID
		d.names[m.NodeID] = n.node
		d.say(n.node, "ready, answered by %s", d.answered(m.SuperNodes))
	}
	return ids, nil
}

func (d *demo) registerByMAC(ctx context.Context, printer, mac, node string) error {
	args := []string{"operator", "device", "add", printer, "--domain", demoCompany, "--mac", mac, "--port", "9100", "--at", node, "--data", d.data("operator")}
	d.showCommand(args)
	var failed error
	// Where the node is the operator learns from its announcement, which may take a second to arrive.
	err := d.until(ctx, nil, func() bool {
		_, failed = d.quiet(ctx, "operator", args...)
		return failed == nil
	})
	if err != nil {
		return fmt.Errorf("device add: %w", errors.Join(err, failed))
	}
	return nil
}

// netchecks has the agents say what their routers do; of what they find, the lines that this story is about are shown.
func (d *demo) netchecks(ctx context.Context) error {
	for _, n := range []string{"home", "branch", "office"} {
		out, err := d.run(ctx, n, "netcheck")
		if err != nil {
			return fmt.Errorf("netcheck %s: %w", n, err)
		}
		d.show(out, func(line string) bool {
			mapping := strings.HasPrefix(line, "port mapping") && strings.HasSuffix(line, ": mapped")
			return mapping || strings.HasPrefix(line, "site") || strings.HasPrefix(line, "IPv4")
		})
	}
	return nil
}

// show prints those lines of a command's output that a reader needs.
func (d *demo) show(out string, needed func(line string) bool) {
	for line := range strings.Lines(out) {
		if line = strings.TrimRight(line, "\n"); needed(line) {
			fmt.Fprintf(d.out, "           %s\n", strings.TrimSpace(line))
		}
	}
}

// printFrom opens a tunnel from home, waits until it has found the route, and prints over it.
func (d *demo) printFrom(ctx context.Context, net *demoNet, printer, want string) error {
	var t localapi.Tunnel
	began := time.Now()
	args := []string{"open", printer, "9100", "--json", "--data", d.data("home")}
	d.showCommand(args)
	var failed error
	if err := d.until(ctx, nil, func() bool {
		var out string
		if out, failed = d.quiet(ctx, "home", args...); failed != nil {
			return false
		}
		failed = json.Unmarshal([]byte(out), &t)
		return true
	}); err != nil || failed != nil {
		return fmt.Errorf("open: %w", errors.Join(err, failed))
	}
	d.say("home", "has a tunnel to %s after %d ms, %s; any program connects to %s", printer, time.Since(began).Milliseconds(), t.Route, t.Local)
	first := t.Route
	ctx, cancel := context.WithTimeout(ctx, demoUpgrade)
	defer cancel()
	if err := d.until(ctx, nil, func() bool {
		out, err := d.quiet(ctx, "home", "tunnels", "--json", "--data", d.data("home"))
		var all []localapi.Tunnel
		if err != nil || json.Unmarshal([]byte(out), &all) != nil {
			return false
		}
		i := slices.IndexFunc(all, func(o localapi.Tunnel) bool { return o.ID == t.ID })
		if i >= 0 {
			t = all[i]
		}
		return t.Route == want
	}); err != nil {
		return fmt.Errorf("the tunnel to %s is %s, and did not become %s: %w", printer, t.Route, want, err)
	}
	if t.Route != first {
		d.say("home", "its route is %s now, %d ms after the request", t.Route, time.Since(began).Milliseconds())
	}
	receipt, err := d.run(ctx, "home", "tunnels", "-v")
	if err != nil {
		return fmt.Errorf("tunnels: %w", err)
	}
	d.show(receipt, func(line string) bool { return strings.HasPrefix(line, "  ") })
	if err := net.inside("home", func() error { return d.sendAndCheck(ctx, t.Local) }); err != nil {
		return err
	}
	_, err = d.run(ctx, "home", "close", t.ID)
	return err
}
