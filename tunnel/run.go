package tunnel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"culvert/protocol"
)

// quest is what a race is run for.
type quest struct {
	routes   []Route
	probe    bool // the device must answer once; else it is left in peace
	patience time.Duration
	// better is told of each winner, the later the better, with what has been tried by then.
	better func(*path, Receipt)
}

// raceFor looks for ways to the tunnel's device until no better one is to be expected. The error says why none was found.
func (m *Manager) raceFor(ctx context.Context, t *Tunnel, q quest) (Receipt, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, q.patience)
	defer cancel()
	me, err := m.member(t.local)
	if err != nil {
		return Receipt{}, err
	}
	old := t.remembered()
	w := want{me: me, port: t.req.Port, proto: t.req.Protocol}
	w.device, _, err = hedged(ctx, fetch(ctx, m, func(ctx context.Context) (Device, error) {
		return m.cfg.Resolver.Device(ctx, t.req.Domain, t.req.Device)
	}), old.device, !old.device.ID.IsZero())
	if err != nil {
		return Receipt{}, fmt.Errorf("find device %q: %w", t.req.Device, err)
	}
	if err := CheckRecord(Ask{Device: w.device, Requester: me.Node, Port: w.port, Protocol: w.proto, Local: me.Node.ID}); err != nil {
		return Receipt{}, err
	}
	self := m.reachesSelf(w)
	answer := fetch(ctx, m, func(ctx context.Context) ([]Target, error) { return m.cfg.Resolver.TunnelNodes(ctx, w.device) })
	targets, stale, err := hedged(ctx, answer, old.targets, len(old.targets) > 0 && old.device.ID == w.device.ID)
	if err != nil && !self {
		t.remember(known{device: w.device})
		return Receipt{}, fmt.Errorf("find a tunnel-node for %q: %w", t.req.Device, err)
	}
	for {
		targets = m.usable(w, targets)
		t.remember(known{w.device, targets})
		m.counts.races.Add(1)
		rctx, news, stop := m.renew(ctx, w, targets)
		notify := q
		notify.better = func(p *path, r Receipt) {
			news.won.Store(true)
			q.better(p, r)
		}
		receipt, err := m.enterRace(rctx, began, w, notify, self, targets)
		stop()
		if err == nil || about(err) {
			return receipt, verdictOn(err, receipt)
		}
		select {
		case targets = <-news.fresh:
			stale = false
			continue
		default:
		}
		if !stale {
			return receipt, verdictOn(err, receipt)
		}
		select { // what was remembered did not help
		case fresh := <-answer:
			if fresh.err != nil {
				return receipt, verdictOn(err, receipt)
			}
			targets, stale = fresh.v, false
		case <-ctx.Done():
			return receipt, verdictOn(err, receipt)
		}
	}
}

func verdictOn(err error, r Receipt) error {
	switch {
	case err == nil:
		return nil
	case about(err):
		return &OpenError{Err: err, Receipt: r}
	}
	return &NoRouteError{Receipt: r}
}

// enterRace lines up who takes part, and runs the race.
func (m *Manager) enterRace(ctx context.Context, began time.Time, w want, q quest, self bool, targets []Target) (Receipt, error) {
	relays := make([][]protocol.Peer, min(len(targets), mostTargets))
	counts := make([]int, len(relays))
	for i := range relays {
		if allowed(q.routes, Relayed) {
			// A node without relays may still be reached otherwise; the receipt shows that none was tried.
			relays[i], _ = m.cfg.Signaler.Relays(ctx, w.me.Node.ID, targets[i])
		}
		counts[i] = len(relays[i])
	}
	in := entrants(self, q.routes, counts)
	if p := m.bestLive(w.me.Node.ID, targets, q.routes); p != nil && !self {
		in = behind(p, slices.IndexFunc(targets, func(t Target) bool { return t.Node.ID == p.node }), in)
	}
	deadline, _ := ctx.Deadline()
	r := &runningRace{m: m, w: w, q: q, began: began, in: in, targets: targets, relays: relays,
		attempts: make([]Attempt, len(in)), cancels: make([]context.CancelFunc, len(in)), asked: make([]asked, len(targets)+1)}
	for i := range r.asked {
		r.asked[i].turn = make(chan struct{}, 1)
	}
	return r.run(ctx, time.Until(deadline))
}

// runningRace is a race with what the loop around it holds.
type runningRace struct {
	m       *Manager
	w       want
	q       quest
	began   time.Time
	in      []entrant
	targets []Target
	relays  [][]protocol.Peer

	attempts []Attempt
	order    []int // in which they were started
	cancels  []context.CancelFunc
	asked    []asked     // by target, this node itself first
	won      atomic.Bool // somebody has
}

// asked lets each node be asked for the device by one entrant at a time, and by none after the device has answered: devices
// that take one connection at a time would refuse the second.
type asked struct {
	turn     chan struct{} // holds one
	answered bool          // guarded by the turn
}

type raceResult struct {
	i    int
	path *path
	err  error
}

// run is the loop around a race: it starts and cancels entrants as the race says.
func (r *runningRace) run(ctx context.Context, patience time.Duration) (Receipt, error) {
	results := make(chan raceResult, len(r.in))
	defer func() {
		for _, c := range r.cancels {
			if c != nil {
				c()
			}
		}
	}()
	var verdict error
	timer := time.NewTimer(0)
	defer timer.Stop()
	rc := newRace(time.Now(), r.in, patience)
	act := rc.tick(time.Now()) // at once: alone in a race, not even a relay waits
	for {
		for _, i := range act.cancel {
			r.cancels[i]()
			r.end(i, r.givenUp(rc, i))
		}
		for _, i := range act.start {
			cctx, cancel := context.WithCancel(ctx)
			r.cancels[i] = cancel
			r.begin(i)
			if !r.m.spawn(func() {
				p, err := r.try(cctx, r.in[i])
				results <- raceResult{i, p, err}
			}) {
				return r.receipt(), ErrClosed
			}
		}
		if act.failed {
			return r.receipt(), worst(verdict)
		}
		if act.over {
			return r.receipt(), nil
		}
		timer.Reset(time.Until(rc.next()))
		select {
		case <-ctx.Done():
			for _, i := range r.order {
				if rc.state[i] == running {
					r.end(i, "no answer in time")
				}
			}
			if rc.best >= 0 {
				return r.receipt(), nil
			}
			return r.receipt(), worst(verdict)
		case <-timer.C:
			act = rc.tick(time.Now())
		case res := <-results:
			act = raceAction{winner: -1}
			switch {
			case rc.state[res.i] != running:
			case res.err == nil:
				r.end(res.i, "")
				r.won.Store(true)
				act = rc.won(time.Now(), res.i)
				for _, i := range act.cancel {
					r.end(i, r.givenUp(rc, i))
				}
				r.q.better(res.path, r.receipt())
			default:
				r.end(res.i, readable(res.err))
				verdict = graver(verdict, res.err)
				act = rc.failed(time.Now(), res.i, about(res.err))
			}
		}
	}
}

func (r *runningRace) givenUp(rc *race, i int) string {
	if rc.best >= 0 && r.in[rc.best].route.rank() <= r.in[i].route.rank() {
		return "given up: another way was faster"
	}
	if time.Now().Before(rc.end) {
		return "given up: the node has answered by another way"
	}
	return "no answer in time"
}

// begin opens the receipt's line of an entrant.
func (r *runningRace) begin(i int) {
	e := r.in[i]
	a := Attempt{Route: e.route, Node: r.w.me.Node.ID, After: time.Since(r.began)}
	if e.target >= 0 {
		a.Node = r.targets[e.target].Node.ID
		if e.live != nil {
			a.Relay, a.Shared = e.live.relay, true
		} else if e.route == Relayed {
			a.Relay = r.relays[e.target][e.relay].ID
		}
	}
	r.attempts[i] = a
	r.order = append(r.order, i)
}

// end closes it once.
func (r *runningRace) end(i int, why string) {
	if a := &r.attempts[i]; a.Took == 0 {
		a.Took, a.Error = max(time.Since(r.began)-a.After, 1), why
	}
}

func (r *runningRace) receipt() Receipt {
	l := make([]Attempt, 0, len(r.order))
	for _, i := range r.order {
		a := r.attempts[i]
		if a.Took == 0 {
			a.Took, a.Error = time.Since(r.began)-a.After, "still under way"
		}
		l = append(l, a)
	}
	return Receipt{Attempts: l, Took: time.Since(r.began)}
}

// try goes one way, and has the device asked where nothing has answered for it yet.
func (r *runningRace) try(ctx context.Context, e entrant) (*path, error) {
	p := e.live
	if p == nil {
		var err error
		if p, err = r.m.try(ctx, r.w, e, r.targets, r.relays); err != nil {
			return nil, err
		}
	}
	self := e.target < 0 // that this node is in the right place does not mean that it reaches the device
	if !self && (!r.q.probe || r.won.Load()) {
		return p, nil
	}
	a := &r.asked[e.target+1]
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if a.answered || !self && r.won.Load() {
		return p, nil
	}
	err := error(nil)
	if self {
		err = r.m.probeSelf(ctx, r.w)
	} else {
		err = r.m.probe(ctx, r.w, p)
	}
	a.answered = err == nil
	return p, err
}

// probeSelf has a device asked that this node itself reaches.
func (m *Manager) probeSelf(ctx context.Context, w want) error {
	a := Ask{Device: w.device, Requester: w.me.Node, Port: w.port, Protocol: w.proto, Local: w.me.Node.ID, Consent: w.me.Consent}
	if w.proto == protocol.UDP {
		conn, err := m.dialer.connectUDP(ctx, a)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	conn, err := m.dialer.connect(ctx, a)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// readable says in one line for people why an attempt failed.
func readable(err error) string {
	text := strings.NewReplacer("\n", "; ", context.DeadlineExceeded.Error(), "no answer in time", context.Canceled.Error(), "given up")
	return text.Replace(err.Error())
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
