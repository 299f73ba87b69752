package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/protocol"
)

// raceFor finds a way to the tunnel's device by one of the routes. Without probe the device is left in peace.
func (m *Manager) raceFor(ctx context.Context, t *Tunnel, routes []Route, probe bool) (*path, Receipt, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.OpenTimeout)
	defer cancel()
	me, err := m.member(t.local)
	if err != nil {
		return nil, Receipt{}, err
	}
	w := want{me: me, port: t.req.Port, proto: t.req.Protocol, probe: probe}
	if w.device, err = m.cfg.Resolver.Device(ctx, t.req.Domain, t.req.Device); err != nil {
		return nil, Receipt{}, fmt.Errorf("find device %q: %w", t.req.Device, err)
	}
	if err := CheckRecord(Ask{Device: w.device, Requester: me.Node, Port: w.port, Protocol: w.proto, Local: me.Node.ID}); err != nil {
		return nil, Receipt{}, err
	}
	t.found(w.device)
	self := m.reachesSelf(w)
	targets, err := m.cfg.Resolver.TunnelNodes(ctx, w.device)
	if err != nil && !self {
		return nil, Receipt{}, fmt.Errorf("find a tunnel-node for %q: %w", t.req.Device, err)
	}
	targets = slices.DeleteFunc(slices.Clone(targets), func(x Target) bool {
		n := x.Node
		return n == nil || n.ID == me.Node.ID || n.ID.Domain() != me.Node.ID.Domain() || m.cfg.Revoked(n.ID) ||
			!m.cfg.Now().Before(n.Expires) || !w.device.Value.Node.IsZero() && n.ID != w.device.Value.Node
	})
	if p := m.bestLive(me.Node.ID, targets, routes); p != nil && !self {
		one := Attempt{Route: p.route, Node: p.node, Relay: p.relay}
		err := error(nil)
		if probe {
			err = m.probe(ctx, w, p)
		}
		if one.Took = time.Since(began); err == nil {
			return p, Receipt{Attempts: []Attempt{one}, Took: one.Took}, nil
		}
		if about(err) && len(targets) == 1 {
			one.Error = err.Error()
			r := Receipt{Attempts: []Attempt{one}, Took: one.Took}
			return nil, r, &OpenError{Err: err, Receipt: r}
		}
	}
	relays := make([][]protocol.Peer, min(len(targets), mostTargets))
	for i := range relays {
		if allowed(routes, Relayed) {
			// A node without relays may still be reached otherwise; the receipt shows that none was tried.
			relays[i], _ = m.cfg.Signaler.Relays(ctx, me.Node.ID, targets[i])
		}
	}
	counts := make([]int, len(relays))
	for i := range relays {
		counts[i] = len(relays[i])
	}
	m.counts.races.Add(1)
	p, receipt, err := m.run(ctx, w, entrants(self, routes, counts), targets, relays)
	receipt.Took = time.Since(began)
	if err == nil {
		return p, receipt, nil
	}
	if about(err) {
		return nil, receipt, &OpenError{Err: err, Receipt: receipt}
	}
	return nil, receipt, &NoRouteError{Receipt: receipt}
}

// run is the loop around a race: it starts and cancels entrants as the race says.
func (m *Manager) run(ctx context.Context, w want, in []entrant, targets []Target, relays [][]protocol.Peer) (*path, Receipt, error) {
	type result struct {
		i    int
		path *path
		err  error
	}
	began := time.Now()
	results := make(chan result, len(in))
	cancels := make([]context.CancelFunc, len(in))
	attempts := make([]Attempt, len(in))
	order := make([]int, 0, len(in))
	r := newRace(began, in)
	var verdict error
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		for _, c := range cancels {
			if c != nil {
				c()
			}
		}
	}()
	receipt := func() Receipt {
		var l []Attempt
		for _, i := range order {
			l = append(l, attempts[i])
		}
		return Receipt{Attempts: l}
	}
	act := r.tick(began) // at once: alone in a race, not even a relay waits
	for {
		for _, i := range act.cancel {
			cancels[i]()
			attempts[i].Took, attempts[i].Error = time.Since(began)-attempts[i].After, "given up: not needed any more"
		}
		for _, i := range act.start {
			cctx, cancel := context.WithCancel(ctx)
			cancels[i] = cancel
			attempts[i] = m.attempt(w, in[i], targets, relays)
			attempts[i].After = time.Since(began)
			order = append(order, i)
			if !m.spawn(func() {
				p, err := m.try(cctx, w, in[i], targets, relays)
				results <- result{i, p, err}
			}) {
				return nil, receipt(), ErrClosed
			}
		}
		if act.failed {
			return nil, receipt(), worst(verdict)
		}
		if at := r.next(); !at.IsZero() {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			for _, i := range order {
				if r.state[i] == running {
					attempts[i].Took, attempts[i].Error = time.Since(began)-attempts[i].After, "no answer in time"
				}
			}
			return nil, receipt(), worst(verdict)
		case <-timer.C:
			act = r.tick(time.Now())
		case res := <-results:
			if r.state[res.i] != running {
				act = raceAction{winner: -1}
				continue
			}
			attempts[res.i].Took = time.Since(began) - attempts[res.i].After
			if res.err == nil {
				act = r.won(res.i)
				for _, i := range act.cancel {
					cancels[i]()
					attempts[i].Took, attempts[i].Error = time.Since(began)-attempts[i].After, "given up: another way was faster"
				}
				return res.path, receipt(), nil
			}
			attempts[res.i].Error = res.err.Error()
			verdict = graver(verdict, res.err)
			act = r.failed(time.Now(), res.i, about(res.err))
		}
	}
}

// attempt is the receipt's line for an entrant.
func (m *Manager) attempt(w want, e entrant, targets []Target, relays [][]protocol.Peer) Attempt {
	a := Attempt{Route: e.route, Node: w.me.Node.ID}
	if e.target >= 0 {
		a.Node = targets[e.target].Node.ID
		if e.route == Relayed {
			a.Relay = relays[e.target][e.relay].ID
		}
	}
	return a
}

// graver keeps the error that says most about the device: one that answered for it outweighs one that could not look.
func graver(old, err error) error {
	if !about(err) {
		if old == nil {
			return err
		}
		return old
	}
	for _, e := range []error{ErrDeviceRefused, ErrDeviceTimeout, ErrDevicePin, ErrNotAllowed, ErrDeviceUnreachable} {
		if errors.Is(old, e) {
			return old
		}
		if errors.Is(err, e) {
			return err
		}
	}
	if old != nil && about(old) {
		return old
	}
	return err
}

func worst(err error) error {
	if err == nil {
		return ErrNoRoute
	}
	return err
}
