package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"culvert/node/localapi"
	"culvert/protocol/carrier"
)

const (
	demoCompany = "acme"
	demoForeign = "globex"
	demoPrinter = "printer-1"
	demoJobSize = 8 << 20
)

func (d *demo) startOperator(ctx context.Context) error {
	https, err := carrier.FreePort()
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, "operator", "operator", "init", "--name", "demo", "--advertise", fmt.Sprintf("127.0.0.1:%d", https)); err != nil {
		return fmt.Errorf("operator init: %w", err)
	}
	msg, err := carrier.FreePort()
	if err != nil {
		return err
	}
	p, err := d.start("operator", "operator", "run", "--listen", fmt.Sprintf("127.0.0.1:%d", msg), "--https", fmt.Sprintf("127.0.0.1:%d", https))
	if err != nil {
		return err
	}
	if err := d.untilReady(ctx, p, func(localapi.Status) bool { return true }); err != nil {
		return err
	}
	d.say("operator", "is up: the only trusted party; it signs keys and registers devices")
	return nil
}

// enrolEverybody makes two companies and joins the nodes to them.
func (d *demo) enrolEverybody(ctx context.Context) error {
	for _, domain := range []string{demoCompany, demoForeign} {
		if _, err := d.run(ctx, "operator", "operator", "domain", "add", domain); err != nil {
			return fmt.Errorf("domain add: %w", err)
		}
	}
	for _, n := range []struct{ node, domain string }{
		{"super-1", demoCompany}, {"super-2", demoCompany}, {"tunnel", demoCompany}, {"user", demoCompany}, {"foreign", demoForeign},
	} {
		token, err := d.run(ctx, "operator", "operator", "token", "create", "--domain", n.domain)
		if err != nil {
			return fmt.Errorf("token create: %w", err)
		}
		began := time.Now()
		if _, err := d.run(ctx, n.node, "join", token, "--name", n.node); err != nil {
			return fmt.Errorf("join %s: %w", n.node, err)
		}
		d.say(n.node, "enrolled in %s in %d ms", n.domain, time.Since(began).Milliseconds())
	}
	return nil
}

// startAgents runs the nodes and returns the tunnel-node's ID.
func (d *demo) startAgents(ctx context.Context, dev *demoDevice) (tunnelNode string, err error) {
	consent := fmt.Sprintf("[[consent]]\ndevice = %q\nports = [\"%d\"]\n", demoPrinter, dev.addr.Port())
	if err := os.WriteFile(filepath.Join(d.data("tunnel"), "config.toml"), []byte(consent), 0o600); err != nil {
		return "", err
	}
	d.say("tunnel", "its owner consents to %s port %d in config.toml", demoPrinter, dev.addr.Port())
	for _, n := range []struct {
		name string
		args []string
	}{
		{"super-1", []string{"--super", "--no-tunnel"}},
		{"super-2", []string{"--super", "--no-tunnel"}},
		{"tunnel", nil},
		{"user", []string{"--no-tunnel"}},
		{"foreign", []string{"--no-tunnel"}},
	} {
		p, err := d.start(n.name, append([]string{"run", "--listen", "127.0.0.1:0"}, n.args...)...)
		if err != nil {
			return "", err
		}
		super := strings.HasPrefix(n.name, "super")
		var m localapi.Membership
		began := time.Now()
		if err := d.untilReady(ctx, p, func(s localapi.Status) bool {
			m = firstMembership(s)
			return m.State == "active" && len(m.SuperNodes) > 0 && (!super || slices.Contains(s.Roles, "super"))
		}); err != nil {
			return "", err
		}
		d.names[m.NodeID] = n.name
		took := time.Since(began).Milliseconds()
		if n.name == "tunnel" {
			tunnelNode = m.NodeID
		}
		if super {
			d.say(n.name, "reached from outside by the operator, serving its partition after %d ms", took)
		} else {
			d.say(n.name, "ready after %d ms, answered by %s", took, d.answered(m.SuperNodes))
		}
	}
	return tunnelNode, nil
}

// answered names super-nodes with their round trips.
func (d *demo) answered(nodes []localapi.SuperNode) string {
	var l []string
	for _, n := range nodes {
		l = append(l, fmt.Sprintf("%s (%s)", d.name(n.ID), showMilliseconds(n.Milliseconds)))
	}
	return strings.Join(l, " and ")
}

// name is what the demo calls a node. The operator's own ID is in no membership: it serves while super-nodes are few.
func (d *demo) name(id string) string {
	if n, ok := d.names[id]; ok {
		return n
	}
	return "operator"
}

// firstMembership is the first of a status, empty before there is one.
func firstMembership(s localapi.Status) localapi.Membership {
	if len(s.Memberships) == 0 {
		return localapi.Membership{}
	}
	return s.Memberships[0]
}

func (d *demo) registerDevice(ctx context.Context, dev *demoDevice, tunnelNode string) error {
	args := []string{"operator", "device", "add", demoPrinter, "--domain", demoCompany, "--port", fmt.Sprint(dev.addr.Port())}
	if dev.own {
		// Where the tunnel-node is the operator learns from its announcement, which may take a second to arrive.
		args = append(args, "--address", dev.addr.Addr().String(), "--at", tunnelNode)
	} else {
		args = append(args, "--node", tunnelNode)
	}
	args = append(args, "--data", d.data("operator"))
	d.showCommand(args)
	var failed error
	if err := d.until(ctx, nil, func() bool {
		_, failed = d.quiet(ctx, "operator", args...)
		return failed == nil || !dev.own
	}); err != nil || failed != nil {
		return fmt.Errorf("device add: %w", errors.Join(err, failed))
	}
	d.say("operator", "registered %s of %s, port %d; its record is signed, sealed, and on the super-nodes", demoPrinter, demoCompany, dev.addr.Port())
	return nil
}

// findDevice asks the mesh as the user-node until it knows the device and a tunnel-node that reaches it.
func (d *demo) findDevice(ctx context.Context) error {
	args := []string{"devices", "--refresh", "--json", "--data", d.data("user")}
	d.showCommand(args)
	began := time.Now()
	var found []localapi.Device
	err := d.until(ctx, nil, func() bool {
		out, err := d.quiet(ctx, "user", args...)
		return err == nil && json.Unmarshal([]byte(out), &found) == nil && len(found) == 1 && found[0].TunnelNodes > 0
	})
	if err != nil {
		return fmt.Errorf("%s was not found with a tunnel-node: %w", demoPrinter, err)
	}
	d.say("user", "found %s and the tunnel-node that announces it in %d ms, by asking the super-nodes", found[0].Name, time.Since(began).Milliseconds())
	return nil
}

// printJob opens a tunnel, by one route if it is named, and sends a job through it.
func (d *demo) printJob(ctx context.Context, dev *demoDevice, route string) error {
	args := []string{"open", demoPrinter, fmt.Sprint(dev.addr.Port()), "--json"}
	if route != "" {
		args = append(args, "--route", route)
	}
	began := time.Now()
	out, err := d.run(ctx, "user", args...)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	var t localapi.Tunnel
	if err := json.Unmarshal([]byte(out), &t); err != nil || t.Local == "" {
		return fmt.Errorf("open printed %q", out)
	}
	way := t.Route
	if t.Relay != "" {
		way += " by " + d.name(t.Relay)
	}
	d.say("user", "has a tunnel: route %s to %s, in %d ms; any program connects to %s", way, d.name(t.TunnelNode), time.Since(began).Milliseconds(), t.Local)
	if route != "" && t.Route != route {
		return fmt.Errorf("route %s was asked for, %s was taken", route, t.Route)
	}
	if dev.own {
		d.say("user", "your device answered; nothing was sent to it")
	} else if err := d.sendAndCheck(ctx, t.Local); err != nil {
		return err
	}
	if _, err := d.run(ctx, "user", "close", t.ID); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

func (d *demo) sendAndCheck(ctx context.Context, local string) error {
	job := make([]byte, demoJobSize)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(job)
	began := time.Now()
	answer, err := sendJob(ctx, local, job)
	if err != nil {
		return fmt.Errorf("print job: %w", err)
	}
	took := time.Since(began)
	sum := sha256.Sum256(job)
	want := fmt.Sprintf("%d bytes, SHA-256 %x\n", len(job), sum)
	if answer != want {
		return fmt.Errorf("the printer got something else: %q instead of %q", answer, want)
	}
	d.say("printer", "got the job whole: %d MB in %d ms, SHA-256 %x…", len(job)>>20, took.Milliseconds(), sum[:6])
	return nil
}

// foreignRefused shows that another company's node gets nowhere.
func (d *demo) foreignRefused(ctx context.Context, dev *demoDevice) error {
	for _, name := range []string{demoPrinter, demoPrinter + "@" + demoCompany} {
		out, err := d.run(ctx, "foreign", "open", name, fmt.Sprint(dev.addr.Port()))
		if err == nil {
			return fmt.Errorf("a node of %s opened a device of %s: %s", demoForeign, demoCompany, out)
		}
		d.say("foreign", "refused, as it must be: %s", strings.TrimPrefix(firstLine(err.Error()), "culvert: "))
	}
	return nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
