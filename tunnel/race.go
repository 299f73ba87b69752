package tunnel

import "time"

// Staggering of a race: what costs little starts at once, the relay a moment later, further nodes and relays after that.
const (
	relayDelay  = 150 * time.Millisecond
	nextRelay   = 300 * time.Millisecond
	nextTarget  = 250 * time.Millisecond
	mostTargets = 6
	mostRelays  = 3
)

// entrant is one way to one tunnel-node that takes part in a race.
type entrant struct {
	route  Route
	target int // which node; -1: this node itself
	relay  int // which of the node's relays
	after  time.Duration
}

// line up entrants: routes allowed, relays[i] of target i.
func entrants(self bool, routes []Route, relays []int) []entrant {
	allowed := func(r Route) bool {
		for _, o := range routes {
			if o == r {
				return true
			}
		}
		return false
	}
	var l []entrant
	if self && allowed(LAN) {
		l = append(l, entrant{route: LAN, target: -1})
	}
	for t := range min(len(relays), mostTargets) {
		start := time.Duration(t) * nextTarget
		for _, r := range []Route{LAN, Direct, Mapped, Punched} {
			if allowed(r) {
				l = append(l, entrant{route: r, target: t, after: start})
			}
		}
		for i := 0; allowed(Relayed) && i < min(relays[t], mostRelays); i++ {
			l = append(l, entrant{route: Relayed, target: t, relay: i, after: start + relayDelay + time.Duration(i)*nextRelay})
		}
	}
	return l
}

type raceState byte

const (
	ready raceState = iota
	running
	lost
)

// race decides who starts when, and who has won. It has no clock, no goroutine and no randomness: events go in, actions
// come out.
type race struct {
	in    []entrant
	state []raceState
	start time.Time
	early time.Duration // how far the start list has been brought forward because nobody was running
	over  bool
}

// raceAction is what the loop around a race must do.
type raceAction struct {
	start  []int
	cancel []int
	winner int // -1: none yet
	failed bool
}

func newRace(now time.Time, in []entrant) *race {
	return &race{in: in, state: make([]raceState, len(in)), start: now}
}

// won: entrant i works. The others are cancelled.
func (r *race) won(i int) raceAction {
	a := raceAction{winner: i}
	if r.over {
		return raceAction{winner: -1}
	}
	r.over = true
	for j, s := range r.state {
		if j != i && s == running {
			a.cancel = append(a.cancel, j)
			r.state[j] = lost
		}
	}
	return a
}

// failed: entrant i does not work. final: nor will any other way to the same node, which has answered.
func (r *race) failed(now time.Time, i int, final bool) raceAction {
	var cancel []int
	r.state[i] = lost
	for j, e := range r.in {
		if final && e.target == r.in[i].target && j != i {
			if r.state[j] == running {
				cancel = append(cancel, j)
			}
			r.state[j] = lost
		}
	}
	a := r.tick(now)
	a.cancel = append(a.cancel, cancel...)
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
		case r.state[i] == running:
			busy = true
		case r.state[i] == ready && (next < 0 || e.after < next):
			next = e.after
		}
	}
	if !busy && next < 0 {
		r.over, a.failed = true, true
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
	var t time.Time
	for i, e := range r.in {
		if at := r.start.Add(e.after - r.early); r.state[i] == ready && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	if r.over {
		return time.Time{}
	}
	return t
}
