package dht

import (
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// EventKind says what happened to a step machine.
type EventKind byte

const (
	EventTick   EventKind = iota // time went on, or the start
	EventAnswer                  // Peer answered ask Tag with Command and Payload
	EventFailed                  // ask Tag cannot be answered any more
	EventMap                     // the map was asked anew: Members now serve the key, perhaps the same as before
)

// Event is what drives a step machine.
type Event struct {
	Kind    EventKind
	Tag     int
	Command protocol.Command
	Payload []byte
	// Unproved: certificates that its records need were asked for and did not come, which is not yet the peer's fault.
	Unproved bool
	Members  []partition.Member
	Placed   []Placed // of EventMap, where the ActRefresh named Keys
	Epoch    uint64   // of the map that EventMap is about
}

// ActionKind says what a step machine wants done.
type ActionKind byte

const (
	ActAsk     ActionKind = iota // send Payload to Peer; its answer or failure comes back with Tag
	ActRefresh                   // ask for the map anew, of Peer where that is somebody, then EventMap
	ActApply                     // take in Records, at the latest before the next Digests
	ActFetch                     // take in all that Payload, a Repair, asks Peer for, by a stream; then EventAnswer with an empty Repaired
)

// Action is what a step machine wants done.
type Action struct {
	Kind    ActionKind
	Tag     int
	Peer    protocol.Peer
	Payload protocol.Payload
	Records [][]byte
	Keys    []protocol.ID // of ActRefresh: say who serves each
	Epoch   uint64        // of ActRefresh: that Peer says its map has
	Most    uint64        // of ActFetch: more records than these are unsound
}

const (
	// DefaultTimeout is how long a wave of questions waits before the next.
	DefaultTimeout = 700 * time.Millisecond
	// DefaultFresh is how old the announcement of a node may be that is where it says: one announce interval.
	DefaultFresh = 5 * time.Minute

	readQuorum  = 2 // K
	writeQuorum = 2 // W
)

// waves asks members in waves of 2, 4, 8, …; Lookup and StoreOp share it. An ask that is late still counts when it comes.
type waves struct {
	timeout  time.Duration
	queue    []partition.Member
	asks     []ask // by tag
	size     int   // of the next wave
	count    int   // of waves so far
	deadline time.Time
	busy     []busyMember // who is asked later, once; see busy.go
	back     time.Time    // when, once that is settled
	returned bool
	refusals int
	hold     time.Time // no wave before
}

type ask struct {
	member partition.Member
	since  time.Time // it was asked, for the first page or the next
	paged  bool      // it has answered with a page, and more are to come
	open   bool      // no answer and no failure yet
	late   bool      // its wave has ended without it
	blamed bool      // its silence has been noted
}

func newWaves(timeout time.Duration) waves {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return waves{timeout: timeout, size: readQuorum}
}

// waiting reports whether the wave still has time and somebody to wait for.
func (w *waves) waiting(now time.Time) bool {
	if now.Before(w.hold) {
		w.deadline = w.hold
		return true
	}
	if !now.Before(w.deadline) {
		return false
	}
	for i := range w.asks {
		if w.asks[i].open && !w.asks[i].late {
			return true
		}
	}
	return false
}

// reading is until when the next page of a list may come from somebody who has not kept silent for a wave; zero for nobody.
func (w *waves) reading(now time.Time) (until time.Time) {
	for i := range w.asks {
		a := &w.asks[i]
		if next := a.since.Add(w.timeout); a.open && a.paged && next.After(now) && next.After(until) {
			until = next
		}
	}
	return until
}

// expire marks who kept silent in a wave that is over. Who was asked in place of a busy one had less time, and is not blamed yet.
func (w *waves) expire(now time.Time, silent func(protocol.ID)) {
	for i := range w.asks {
		if a := &w.asks[i]; a.open && !a.late {
			a.late = true
			if a.blamed = now.Sub(a.since) >= w.timeout; a.blamed {
				silent(a.member.Peer.ID)
			}
		}
	}
}

// next starts a wave.
func (w *waves) next(now time.Time, payload func(partition.Member) protocol.Payload) []Action {
	acts := w.send(now, w.size, payload)
	w.size *= 2
	w.count++
	w.deadline = now.Add(w.timeout)
	return acts
}

// send asks the next n.
func (w *waves) send(now time.Time, n int, payload func(partition.Member) protocol.Payload) []Action {
	n = min(n, len(w.queue))
	var acts []Action
	for _, m := range w.queue[:n] {
		acts = append(acts, Action{Kind: ActAsk, Tag: len(w.asks), Peer: m.Peer, Payload: payload(m)})
		w.asks = append(w.asks, ask{member: m, since: now, open: true})
	}
	w.queue = w.queue[n:]
	return acts
}

// close takes an answer or failure for tag; ok is false where none is awaited.
func (w *waves) close(tag int) (a *ask, ok bool) {
	if tag < 0 || tag >= len(w.asks) || !w.asks[tag].open {
		return nil, false
	}
	w.asks[tag].open = false
	return &w.asks[tag], true
}

// unasked are the members of l that are neither asked nor queued.
func (w *waves) unasked(l []partition.Member) []partition.Member {
	known := make(map[protocol.ID]bool)
	for i := range w.asks {
		known[w.asks[i].member.Peer.ID] = true
	}
	for _, m := range w.queue {
		known[m.Peer.ID] = true
	}
	for _, b := range w.busy {
		known[b.member.Peer.ID] = true
	}
	var out []partition.Member
	for _, m := range l {
		if !known[m.Peer.ID] {
			out = append(out, m)
		}
	}
	return out
}
