//go:build linux

package matrix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

const (
	customer = "acme"
	hosters  = "hosters" // the super-nodes' domain

	superNodes = 3
	// atOnce is how many agents are set up, or pairs are tried, side by side.
	atOnce = 3
	// setUp is how long one site may take to be of use.
	setUp = 2 * time.Minute
	// logTail is what is shown of each process where all has failed.
	logTail = 2 << 10
	// heardAgain is how long agents may be silent after their NAT forgot them.
	heardAgain = time.Minute
)

// Conf is every agent's config.toml: it notices soon that a NAT has forgotten
// it, and drops links soon, so that each run races anew.
const Conf = "keepalive = \"3s\"\n\n[timeouts]\nidle_link = \"1s\"\n"

// A World is the sites that the matrix needs, with a mesh running in it.
type World struct {
	lab      *lab.Lab
	operator *mesh.Operator
	supers   []*mesh.Agent
	users    map[Kind]*place
	devices  map[Kind]*place
	heard    *hearing
	log      func(format string, args ...any)
}

// NewWorld builds sites and runs operator, super-nodes and agents of program,
// with their folders in dir, which nobody must be able to reach. A site whose
// agent does not come up is a problem of its runs; an error is what nothing can
// be done without.
func NewWorld(ctx context.Context, program, dir string, users, devices []Kind, log func(string, ...any)) (*World, error) {
	l, err := lab.New(ctx, filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	w := &World{lab: l, users: make(map[Kind]*place), devices: make(map[Kind]*place), heard: newHearing(), log: log}
	if err := w.build(ctx, program, dir, users, devices); err != nil {
		for _, p := range l.Processes() {
			log("---- %s wrote:\n%s", p, p.Tail(logTail))
		}
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends everything.
func (w *World) Close() error {
	var errs []error
	for _, p := range w.places() {
		errs = append(errs, p.close())
	}
	errs = append(errs, w.heard.stop(), w.lab.Close())
	return errors.Join(errs...)
}

// Processes are all that were started, for the report of a failure.
func (w *World) Processes() []*lab.Process { return w.lab.Processes() }

func (w *World) places() []*place {
	var all []*place
	for _, k := range Kinds() {
		for _, side := range []map[Kind]*place{w.users, w.devices} {
			if p := side[k]; p != nil {
				all = append(all, p)
			}
		}
	}
	return all
}

func (w *World) build(ctx context.Context, program, dir string, users, devices []Kind) error {
	began := time.Now()
	n := byte(60)
	for _, of := range []struct {
		side  string
		kinds []Kind
		into  map[Kind]*place
	}{{userSide, users, w.users}, {deviceSide, devices, w.devices}} {
		for _, k := range of.kinds {
			p, err := newPlace(w.lab, program, dir, Conf, of.side, k, n)
			if err != nil {
				return fmt.Errorf("the %s's site %s: %w", of.side, k, err)
			}
			n++
			of.into[k] = p
		}
	}
	if err := w.startServers(ctx, program, dir); err != nil {
		return err
	}
	w.log("%d sites, an operator and %d super-nodes stand after %s", len(w.places()), superNodes, time.Since(began).Round(time.Millisecond))
	w.startAgents(ctx)
	w.log("agents run after %s", time.Since(began).Round(time.Millisecond))
	return nil
}

func (w *World) startServers(ctx context.Context, program, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, setUp)
	defer cancel()
	h, err := w.lab.Public("operator", prefix4(11, 0, 2), prefix6(1, 11, 2))
	if err != nil {
		return err
	}
	// By its name it is reached in both families.
	if w.operator, err = mesh.StartOperatorAt(ctx, program, h, dir, h.DNSName()); err != nil {
		return err
	}
	for _, domain := range []string{customer, hosters} {
		if err := w.operator.AddDomain(ctx, domain); err != nil {
			return err
		}
	}
	if err := w.operator.Own(ctx, hosters); err != nil {
		return err
	}
	for i := range superNodes {
		h, err := w.lab.Public(fmt.Sprintf("super-%d", i+1), prefix4(byte(21+i), 0, 2), prefix6(1, byte(21+i), 2))
		if err != nil {
			return err
		}
		a, err := mesh.NewAgent(program, h, dir, Conf)
		if err != nil {
			return err
		}
		token, err := w.operator.Token(ctx, hosters)
		if err != nil {
			return err
		}
		if err := errors.Join(a.Join(ctx, token), a.Start(ctx, "--super")); err != nil {
			return err
		}
		w.supers = append(w.supers, a)
		if err := w.heard.listen(h); err != nil {
			return err
		}
	}
	if err := w.operator.AwaitSuperNodes(ctx, superNodes); err != nil {
		return err
	}
	for _, a := range w.supers {
		if err := a.AwaitRole(ctx, "super"); err != nil {
			return err
		}
	}
	return nil
}

// startAgents runs every site's agent and makes sure that each device's is
// found; whatever fails is that site's problem.
func (w *World) startAgents(ctx context.Context) {
	w.each(w.places(), func(p *place) error {
		ctx, cancel := context.WithTimeout(ctx, setUp)
		defer cancel()
		if err := p.join(ctx, w.operator, customer); err != nil {
			return err
		}
		if p.side == deviceSide {
			return p.register(ctx, w.operator, customer)
		}
		return nil
	})
	var devices []*place
	for _, p := range w.places() {
		if p.side == deviceSide && p.problem == nil {
			devices = append(devices, p)
		}
	}
	w.each(devices, func(p *place) error {
		ctx, cancel := context.WithTimeout(ctx, setUp)
		defer cancel()
		return w.firstTunnel(ctx, p)
	})
	for _, p := range w.places() {
		if p.problem != nil {
			w.log("%s is of no use: %v", p, p.problem)
		}
	}
}

// firstTunnel waits until a device is reached from somewhere: its agent has
// announced itself by then.
func (w *World) firstTunnel(ctx context.Context, p *place) error {
	from := w.anyUser()
	if from == nil {
		return nil
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := from.agent.Open(ctx, p.String(), device.JetDirectPort)
		if err == nil {
			return from.agent.Close(ctx, t)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no tunnel to it from the %s's site %s: %w", from.side, from.kind, err)
		case <-tick.C:
		}
	}
}

// anyUser is the user's site with the least in its way.
func (w *World) anyUser() *place {
	for _, k := range Kinds() {
		if p := w.users[k]; p != nil && p.problem == nil {
			return p
		}
	}
	return nil
}

// each does the same at several places at once, and keeps what fails there.
func (w *World) each(places []*place, do func(*place) error) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, p := range places {
		g.Go(func() error {
			if err := do(p); err != nil {
				p.problem = err
			}
			return nil
		})
	}
	_ = g.Wait() // each error is its place's
}

// forget has every router forget its flows, and waits until the super-nodes
// have heard of every agent again.
func (w *World) forget(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, p := range w.places() {
		g.Go(p.site.FlushNAT)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	w.heard.forget()
	ctx, cancel := context.WithTimeout(ctx, heardAgain)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		silent := slices.DeleteFunc(w.places(), func(p *place) bool { return p.problem != nil || p.side != deviceSide || w.heard.from(p) })
		if len(silent) == 0 {
			w.log("all agents are heard again after %s", time.Since(began).Round(time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			w.log("not heard again within %s: %v", heardAgain, silent)
			return nil
		case <-tick.C:
		}
	}
}

// Netcheck asks every agent what kind of site it is at.
func (w *World) Netcheck(ctx context.Context) []Check {
	var mu sync.Mutex
	var out []Check
	w.each(w.places(), func(p *place) error {
		c := Check{Kind: p.kind, Side: p.side, Expected: p.kind.Traits().Netcheck}
		ctx, cancel := context.WithTimeout(ctx, setUp)
		defer cancel()
		var err error
		c.Got, err = p.agent.Netcheck(ctx)
		if err != nil {
			c.Error = err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		out = append(out, c)
		return p.problem
	})
	slices.SortFunc(out, func(a, b Check) int {
		return cmp.Or(slices.Index(Kinds(), a.Kind)-slices.Index(Kinds(), b.Kind), strings.Compare(b.Side, a.Side))
	})
	return out
}

// Problems are the sites of no use.
func (w *World) Problems() []Problem {
	var out []Problem
	for _, p := range w.places() {
		if p.problem != nil {
			out = append(out, Problem{Kind: p.kind, Side: p.side, Error: p.problem.Error()})
		}
	}
	return out
}
