package tunnel

import (
	"slices"
	"time"
)

// Staggering of a race: what costs little starts at once, the meeting by UDP and the relay a moment later, further nodes and
// relays after that. A relay is what works nearly everywhere, and the first byte may have to wait for it.
const (
	punchDelay  = 30 * time.Millisecond
	relayDelay  = 80 * time.Millisecond
	nextRelay   = 300 * time.Millisecond
	nextTarget  = 250 * time.Millisecond
	mostTargets = 6
	mostRelays  = 3
	// selfHead is how long this node itself may take to reach the device before others are asked to.
	selfHead = 100 * time.Millisecond
	// liveHead is how long a link that is there already may take before new ones are tried beside it.
	liveHead = 300 * time.Millisecond
	// background is how long better routes are tried on after the first one has won.
	background = 8 * time.Second
)

// entrant is one way to one tunnel-node that takes part in a race.
type entrant struct {
	route  Route
	target int // which node; -1: this node itself
	relay  int // which of the node's relays
	after  time.Duration
	live   *path // a link that is there already
}

// entrants lines up who takes part: routes allowed, relays[i] of target i.
func entrants(self bool, routes []Route, relays []int) []entrant {
	var l []entrant
	var head time.Duration
	if self && allowed(routes, LAN) {
		l, head = append(l, entrant{route: LAN, target: -1}), selfHead
	}
	for t := range min(len(relays), mostTargets) {
		start := head + time.Duration(t)*nextTarget
		for _, e := range []entrant{{route: LAN}, {route: Direct}, {route: Mapped}, {route: Punched, after: punchDelay}} {
			if e.target, e.after = t, start+e.after; allowed(routes, e.route) {
				l = append(l, e)
			}
		}
		for i := 0; allowed(routes, Relayed) && i < min(relays[t], mostRelays); i++ {
			l = append(l, entrant{route: Relayed, target: t, relay: i, after: start + relayDelay + time.Duration(i)*nextRelay})
		}
	}
	return l
}

// behind gives a living link to target a head start over the others.
func behind(live *path, target int, others []entrant) []entrant {
	l := []entrant{{route: live.route, target: target, live: live}}
	for _, e := range others {
		e.after += liveHead
		l = append(l, e)
	}
	return l
}

type raceState byte

const (
	ready raceState = iota
	running
	lost
	winning
)

// race decides who starts when, and who has won. The first who works wins, and goes on winning until a better one works too:
// those are not stopped, but given a while more. It has no clock, no goroutine and no randomness: events go in, actions come
// out.
type race struct {
	in    []entrant
	state []raceState
	start time.Time
	end   time.Time     // when those who run are given up
	early time.Duration // how far the start list has been brought forward because nobody was running
	best  int           // who wins so far, -1 for nobody
	over  bool
}

// raceAction is what the loop around a race must do.
type raceAction struct {
	start  []int
	cancel []int
	winner int  // the new one; -1: none
	over   bool // nobody runs any more
	failed bool // and nobody has won
}

func newRace(now time.Time, in []entrant, patience time.Duration) *race {
	return &race{in: in, state: make([]raceState, len(in)), start: now, end: now.Add(patience), best: -1}
}

// won: entrant i works. Who would not be better is cancelled, the others have a while to get there.
func (r *race) won(now time.Time, i int) raceAction {
	if r.over || r.state[i] != running {
		return raceAction{winner: -1}
	}
	r.state[i], r.best = winning, i
	if end := now.Add(background); end.Before(r.end) {
		r.end = end
	}
	var cancel []int
	for j, e := range r.in {
		better := e.route.rank() < r.in[i].route.rank()
		switch r.state[j] {
		case running:
			if !better {
				cancel, r.state[j] = append(cancel, j), lost
			}
		case ready:
			// A meeting by UDP is worth its packets with the node that is used. Where a link was there already, better ones
			// were looked for when it was made.
			if !better || r.in[i].live != nil || e.route == Punched && e.target != r.in[i].target {
				r.state[j] = lost
			}
		}
	}
	a := r.tick(now)
	a.cancel, a.winner = append(cancel, a.cancel...), i
	return a
}

// failed: entrant i does not work. final: nor will any other way to the same node, which has answered.
func (r *race) failed(now time.Time, i int, final bool) raceAction {
	if r.over || r.state[i] != running {
		return raceAction{winner: -1}
	}
	var cancel []int
	r.state[i] = lost
	for j, e := range r.in {
		if final && e.target == r.in[i].target && j != i && r.state[j] != winning {
			if r.state[j] == running {
				cancel = append(cancel, j)
			}
			r.state[j] = lost
		}
	}
	a := r.tick(now)
	a.cancel = append(cancel, a.cancel...)
	return a
}

// tick: time has passed.
func (r *race) tick(now time.Time) raceAction {
	a := raceAction{winner: -1}
	if r.over {
		return a
	}
	busy, next := false, time.Duration(-1)
	for i, e := range r.in {
		switch {
		case !now.Before(r.end) && (r.state[i] == running || r.state[i] == ready):
			if r.state[i] == running {
				a.cancel = append(a.cancel, i)
			}
			r.state[i] = lost
		case r.state[i] == running:
			busy = true
		case r.state[i] == ready && (next < 0 || e.after < next):
			next = e.after
		}
	}
	if !busy && next < 0 {
		r.over, a.over, a.failed = true, true, r.best < 0
		return a
	}
	if elapsed := now.Sub(r.start) + r.early; !busy && next > elapsed {
		r.early += next - elapsed // nobody runs: no reason to wait
	}
	elapsed := now.Sub(r.start) + r.early
	for i, e := range r.in {
		if r.state[i] == ready && e.after <= elapsed {
			r.state[i] = running
			a.start = append(a.start, i)
		}
	}
	return a
}

// next is when tick is due, zero for never.
func (r *race) next() time.Time {
	if r.over {
		return time.Time{}
	}
	t := r.end
	for i, e := range r.in {
		if at := r.start.Add(e.after - r.early); r.state[i] == ready && at.Before(t) {
			t = at
		}
	}
	return t
}

// allowed reports whether r is one of routes.
func allowed(routes []Route, r Route) bool { return slices.Contains(routes, r) }
