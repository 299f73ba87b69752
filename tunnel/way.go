package tunnel

import (
	"context"
	"time"

	"culvert/tunnel/link"
)

// usedLately is how long after its last use a tunnel that lost its way looks for another before somebody asks for one.
const usedLately = 10 * time.Minute

// way is the living path, or another living link to the device's nodes, or what a race finds; all who need one meanwhile share
// the race. Where the way is not the best there could be, a look for better ones may be due.
func (t *Tunnel) way(ctx context.Context) (*path, error) {
	t.mu.Lock()
	t.used = time.Now()
	if t.path != nil && t.path.alive() {
		p := t.path
		t.mu.Unlock()
		t.look(time.Now(), true)
		return p, nil
	}
	if t.closed {
		t.mu.Unlock()
		return nil, ErrClosed
	}
	if p := t.otherLinkLocked(); p != nil {
		t.mu.Unlock()
		t.look(time.Now(), true)
		return p, nil
	}
	r := t.raceLocked(true)
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.path, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// otherLinkLocked takes another living link to the nodes of the device, if the tunnel had a way and lost it. A better one is
// looked for at once.
func (t *Tunnel) otherLinkLocked() *path {
	if t.path == nil || len(t.known.targets) == 0 {
		return nil
	}
	p := t.m.bestLive(t.local, t.known.targets, t.req.Routes)
	if p == nil {
		return nil
	}
	t.takeSharedLocked(p)
	return p
}

// takeSharedLocked takes a link that was not made for this tunnel.
func (t *Tunnel) takeSharedLocked(p *path) {
	if t.path.alive() {
		t.m.counts.improved.Add(1)
	} else {
		t.m.counts.rerouted.Add(1)
	}
	t.takeLocked(p, !t.path.alive())
	l := t.receipt.Attempts
	if len(l) >= mostAttempts {
		l = l[:0:0]
	}
	t.receipt.Attempts = append(l[:len(l):len(l)], Attempt{Route: p.route, Node: p.node, Relay: p.relay, Shared: true})
}

// raceLocked is the race that goes on, or a new one.
func (t *Tunnel) raceLocked(probe bool) *racing {
	if t.racing != nil {
		return t.racing
	}
	if t.stopLook != nil {
		t.stopLook() // it looks for something better than what is lost
	}
	r := &racing{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.ctx)
	t.racing, t.stopLook = r, cancel
	t.looking++
	again := t.path != nil
	t.wg.Go(func() {
		defer cancel()
		t.runRace(ctx, r, again, probe)
	})
	return r
}

// runRace goes on until no better way is to be expected; who waits for one is let go with the first.
func (t *Tunnel) runRace(ctx context.Context, r *racing, again, probe bool) {
	q := quest{routes: t.req.Routes, probe: probe, patience: t.m.cfg.OpenTimeout}
	q.better = func(p *path, receipt Receipt) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.noteLocked(receipt, !r.over, !r.over)
		switch {
		case !r.over:
			if again {
				t.m.counts.rerouted.Add(1)
			}
			t.takeLocked(p, false)
			t.settleLocked(r, p, nil)
		case t.worseLocked(p):
			t.m.counts.improved.Add(1)
			t.takeLocked(p, false)
		}
	}
	receipt, err := t.m.raceFor(ctx, t, q)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking--
	if !r.over {
		t.noteLocked(receipt, true, true)
		t.takeLocked(nil, false)
		t.settleLocked(r, nil, err)
	} else if ctx.Err() == nil {
		t.noteLocked(receipt, false, false)
		t.lookedLocked()
	}
}

// settleLocked lets those go who wait for a race.
func (t *Tunnel) settleLocked(r *racing, p *path, err error) {
	r.path, r.err, r.over = p, err, true
	if t.racing == r {
		t.racing = nil
	}
	close(r.done)
}

// noteLocked keeps the receipt of the latest race that found something or had to. fresh: it is another race than before, took
// that its time counts as the tunnel's.
func (t *Tunnel) noteLocked(r Receipt, fresh, took bool) {
	r.Races = t.receipt.Races
	if fresh {
		r.Races++
	}
	if !took {
		r.Took = t.receipt.Took
	}
	t.receipt = r
}

// worseLocked reports whether the tunnel would do better with p.
func (t *Tunnel) worseLocked(p *path) bool {
	return !t.closed && p.alive() && (t.path == nil || !t.path.alive() || p.route.rank() < t.path.route.rank())
}

// takeLocked puts the tunnel on another path. hurry: better ones are looked for at once.
func (t *Tunnel) takeLocked(p *path, hurry bool) {
	if t.path != nil {
		t.m.rest(t.path.link, -1)
	}
	if t.closed {
		p = nil
	}
	if t.path = p; p != nil {
		t.m.rest(p.link, 1)
		t.m.searchStart(t.searchLocked(), time.Now(), !hurry, hurry)
	}
}

func (t *Tunnel) searchLocked() searchKey {
	_, set := betterThan(t.path.route, t.req.Routes)
	return searchKey{t.local, t.path.node, set}
}

// lookedLocked notes that a look for better ways has just ended.
func (t *Tunnel) lookedLocked() {
	if t.path != nil {
		t.m.searchStart(t.searchLocked(), time.Now(), true, false)
	}
}

// leave gives a path up that turned out not to lead to the device any more.
func (t *Tunnel) leave(p *path) {
	t.mu.Lock()
	if t.path == p {
		t.takeLocked(nil, false)
	}
	t.mu.Unlock()
}

// offer gives the tunnel a new link to the node that it uses, if that is better than what it has.
func (t *Tunnel) offer(l *link.Link, key linkKey) {
	p := &path{route: key.route, node: key.peer, relay: key.relay, link: l}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.local == key.local && t.path != nil && t.path.node == key.peer && allowed(t.req.Routes, key.route) && t.worseLocked(p) {
		t.takeSharedLocked(p)
	}
}

// lookByItself looks for a better way if it is time to, though nobody uses the tunnel.
func (t *Tunnel) lookByItself(now time.Time) {
	t.mu.Lock()
	lost := t.path == nil || !t.path.alive()
	t.mu.Unlock()
	if !lost { // a lost way is looked for when somebody asks for it
		t.look(now, false)
	}
}

// look looks for a better way if it is time to; used: because a program would use it. Without any way it looks for one if the
// tunnel was used lately. Connections that run stay where they are.
func (t *Tunnel) look(now time.Time, used bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.racing != nil {
		return
	}
	if t.path == nil {
		return
	}
	if !t.path.alive() {
		if now.Sub(t.used) < usedLately && t.otherLinkLocked() == nil {
			t.raceLocked(false)
		}
		return
	}
	better, set := betterThan(t.path.route, t.req.Routes)
	if set == 0 || t.looking > 0 || !t.m.searchDue(t.searchLocked(), now, used) {
		return
	}
	ctx, cancel := context.WithCancel(t.ctx)
	t.stopLook = cancel
	t.looking++
	t.wg.Go(func() {
		defer cancel()
		t.improve(ctx, better)
	})
}

// improve takes better ways as they are found.
func (t *Tunnel) improve(ctx context.Context, better []Route) {
	found := false
	_, err := t.m.raceFor(ctx, t, quest{routes: better, patience: background, better: func(p *path, receipt Receipt) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.noteLocked(receipt, !found, false)
		if found = true; t.worseLocked(p) {
			t.m.counts.improved.Add(1)
			t.takeLocked(p, false)
		}
	}})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking--
	if err == nil && ctx.Err() == nil {
		t.lookedLocked()
	}
}

// spread tells the tunnels that use a node of a new link to it.
func (m *Manager) spread(l *link.Link, key linkKey) {
	if l.Role() != link.RoleUser {
		return
	}
	for _, t := range m.tunnelsWhere(func(t *Tunnel) bool { return t.local == key.local }) {
		t.offer(l, key)
	}
}
