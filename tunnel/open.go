package tunnel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

// OpenRequest asks for a local address behind which a device's port is.
type OpenRequest struct {
	Domain   protocol.Domain // zero: the only one
	Device   string          // name or ID
	Port     uint16
	Protocol protocol.Transport // zero: TCP
	Routes   []Route            // allowed; empty: the manager's
	Listen   netip.AddrPort     // zero: a free port of 127.0.0.1
	Persist  bool               // to be restored after a restart; see Forwards
	Caller   string             // who asked, for people
}

// Forward is a tunnel that is to last: what node stores.
type Forward struct {
	OpenRequest
	ID string
}

// OpenError is a tunnel that did not open although a route to a node was there, with what was tried.
type OpenError struct {
	Err     error
	Receipt Receipt
}

// Error is the reason alone.
func (e *OpenError) Error() string { return e.Err.Error() }

// Unwrap is the reason: ErrDeviceRefused, a *NotAllowedError, …
func (e *OpenError) Unwrap() error { return e.Err }

// Open resolves the device, races the routes, and returns when the device has answered through one of them.
func (m *Manager) Open(ctx context.Context, q OpenRequest) (*Tunnel, error) {
	t, err := m.open(ctx, q, "")
	if err != nil {
		m.counts.failed.Add(1)
		return nil, err
	}
	m.counts.opened.Add(1)
	return t, nil
}

func (m *Manager) open(ctx context.Context, q OpenRequest, id string) (*Tunnel, error) {
	t, err := m.newTunnel(q, id)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, t.cancel)
	_, err = t.way(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	if err := t.listen(q.Listen); err != nil {
		return nil, err
	}
	return t, nil
}

// newTunnel makes a tunnel that does not listen yet.
func (m *Manager) newTunnel(q OpenRequest, id string) (*Tunnel, error) {
	if q.Protocol == 0 {
		q.Protocol = protocol.TCP
	}
	if q.Protocol != protocol.TCP {
		return nil, ErrUDP
	}
	if len(q.Routes) == 0 {
		q.Routes = m.cfg.Routes
	}
	for _, r := range q.Routes {
		if !allowed(m.cfg.Routes, r) {
			return nil, fmt.Errorf("%w: route %q is unknown or switched off on this node", ErrNotAllowed, r)
		}
	}
	me, err := m.inDomain(q.Domain)
	if err != nil {
		return nil, err
	}
	q.Domain = me.Node.ID.Domain()
	if id == "" {
		var b [8]byte
		if _, err := io.ReadFull(m.cfg.Rand, b[:]); err != nil {
			return nil, fmt.Errorf("tunnel: read randomness: %w", err)
		}
		id = hex.EncodeToString(b[:])
	}
	t := &Tunnel{m: m, id: id, local: me.Node.ID, req: q, since: m.cfg.Now(), conns: make(map[*net.TCPConn]struct{})}
	t.ctx, t.cancel = context.WithCancel(m.ctx)
	return t, nil
}

// listen opens the local port and starts to serve it.
func (t *Tunnel) listen(at netip.AddrPort) error {
	if !at.IsValid() {
		at = netip.AddrPortFrom(loopback(), 0)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Close()
		return fmt.Errorf("tunnel: local address: %w", err)
	}
	t.m.mu.Lock()
	if t.m.closed || len(t.m.tunnels) >= t.m.cfg.Limits.Tunnels || t.m.tunnels[t.id] != nil {
		err = ErrLimit
		if t.m.closed {
			err = ErrClosed
		}
		t.m.mu.Unlock()
		_ = l.Close()
		t.Close()
		return err
	}
	t.m.tunnels[t.id] = t
	t.mu.Lock()
	t.listener = l
	t.wg.Go(t.accept)
	t.mu.Unlock()
	t.m.mu.Unlock()
	return nil
}

// Restore listens again for forwards that were to last. The device is looked for when somebody connects. It returns why
// each of those that failed did, by ID.
func (m *Manager) Restore(l []Forward) map[string]error {
	failed := make(map[string]error)
	for _, f := range l {
		t, err := m.newTunnel(f.OpenRequest, f.ID)
		if err == nil {
			err = t.listen(f.Listen)
		}
		if err != nil {
			failed[f.ID] = err
		}
	}
	return failed
}

// Forwards are the tunnels that are to last, with the local addresses they really have.
func (m *Manager) Forwards() []Forward {
	var l []Forward
	for _, t := range m.tunnelsWhere(func(t *Tunnel) bool { return t.req.Persist }) {
		f := Forward{OpenRequest: t.req, ID: t.id}
		f.Listen = t.Local()
		l = append(l, f)
	}
	return l
}

// Tunnels lists the open ones, the oldest first.
func (m *Manager) Tunnels() []*Tunnel { return m.tunnelsWhere(func(*Tunnel) bool { return true }) }

// Tunnel is the open one of that ID.
func (m *Manager) Tunnel(id string) (*Tunnel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tunnels[id]; t != nil {
		return t, nil
	}
	return nil, ErrUnknownTunnel
}

func (m *Manager) tunnelsWhere(which func(*Tunnel) bool) []*Tunnel {
	m.mu.Lock()
	all := make([]*Tunnel, 0, len(m.tunnels))
	for _, t := range m.tunnels {
		all = append(all, t)
	}
	m.mu.Unlock()
	all = slices.DeleteFunc(all, func(t *Tunnel) bool { return !which(t) })
	slices.SortFunc(all, func(a, b *Tunnel) int { return a.since.Compare(b.since) })
	return all
}

// raceFor finds a way to the device among the routes. better: only ways that outrank this one, and the device is left in
// peace.
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
	act := raceAction{winner: -1}
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
