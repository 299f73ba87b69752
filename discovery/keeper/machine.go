package keeper

import (
	"encoding/binary"
	"slices"
	"time"

	"culvert/protocol"
)

const (
	// Keepers is how many agents of a location hold bindings: the second one bridges the seconds in which the first one's
	// death is not yet noticed.
	Keepers = 2
	// Standby is how many are next in line and watch closely.
	Standby = 3
	// Answer is how long a question on the LAN may take; the loop says Silent after it.
	Answer = time.Second

	watchEvery = time.Second
	farEvery   = 30 * time.Second
	deadEvery  = 15 * time.Second // one that was silent may be back
	lookFirst  = 2 * time.Second  // three times as long after each reading, up to:
	lookEvery  = 5 * time.Minute  // the list, like the announcements
	lookFar    = 15 * time.Minute // for the silent, who hear the keepers anyway
	lookAgain  = 30 * time.Second // after somebody died
	misses     = 2                // unanswered questions in a row that make one dead
	overlap    = 5 * time.Second  // of bindings, when one steps back

	// Most is how many of the list's lowest IDs are looked at.
	Most = 12
)

// EventKind says what happened.
type EventKind byte

const (
	Tick     EventKind = iota // time has passed
	Listed                    // IDs are those announced at the location now
	Answered                  // ID has answered on the LAN
	Silent                    // ID has not, within Answer
	Moved                     // the network is another one: nothing that was seen counts any more
)

// Event is what a machine is told.
type Event struct {
	Kind EventKind
	ID   protocol.ID
	IDs  []protocol.ID
}

// Actions is what a machine wants done.
type Actions struct {
	Keep bool          // hold bindings, and say so in NodeInfo
	List bool          // be announced at the location
	Ask  []protocol.ID // on the LAN, for a sign of life; Answered or Silent is expected for each
	Look bool          // read the list of the location; Listed is expected when it is there
	Next time.Time     // step then at the latest
}

// Machine is one agent at one location. It is not safe for concurrent use.
type Machine struct {
	self  protocol.ID
	spare time.Duration // up to a second or so, drawn from the ID, so that a fleet that started together does not ask together

	lower   []*peer       // seen with lower IDs, lowest first
	look    time.Time     // when to read the list
	looking bool          // it is being read
	pause   time.Duration // until it is read again: short at first, while others start too
	keep    bool
	until   time.Time // bindings are held until then although two others keep
}

type peer struct {
	id     protocol.ID
	alive  bool // has answered, and not been silent since
	dead   bool
	missed int
	asking bool
	next   time.Time
}

// New makes the machine of a node that keeps until it has heard two others.
func New(self protocol.ID) *Machine {
	h := self.Hash()
	return &Machine{self: self, spare: time.Duration(binary.BigEndian.Uint16(h[30:])) * time.Microsecond * 10, keep: true, pause: lookFirst}
}

// Step takes one event.
func (m *Machine) Step(now time.Time, e Event) Actions {
	switch e.Kind {
	case Listed:
		m.take(now, e.IDs)
	case Answered:
		if p := m.find(e.ID); p != nil {
			p.asking, p.alive, p.dead, p.missed = false, true, false, 0
			p.next = now.Add(m.interval())
		}
	case Silent:
		if p := m.find(e.ID); p != nil {
			m.missed(now, p)
		}
	case Moved:
		*m = *New(m.self)
	}
	return m.decide(now)
}

func (m *Machine) find(id protocol.ID) *peer {
	for _, p := range m.lower {
		if p.id == id {
			return p
		}
	}
	return nil
}

// take reads a new list; what was seen of those still on it stays.
func (m *Machine) take(now time.Time, ids []protocol.ID) {
	var lower []*peer
	for _, id := range ids {
		if id.Compare(m.self) >= 0 || slices.ContainsFunc(lower, func(p *peer) bool { return p.id == id }) {
			continue
		}
		p := m.find(id)
		if p == nil {
			p = &peer{id: id, next: now}
		}
		lower = append(lower, p)
	}
	slices.SortFunc(lower, func(a, b *peer) int { return a.id.Compare(b.id) })
	m.lower = lower[:min(len(lower), Most)]
	m.looking = false
	most := lookEvery
	if m.far() {
		most = lookFar
	}
	m.look = now.Add(min(m.pause, most) + m.spare*time.Duration(m.pause/lookFirst))
	m.pause = min(3*m.pause, most)
	if m.keep && slices.ContainsFunc(m.lower, func(p *peer) bool { return p.dead }) {
		m.look = now.Add(lookAgain + m.spare) // until the dead are off it, others step in whose IDs may be lower
	}
}

func (m *Machine) missed(now time.Time, p *peer) {
	p.asking = false
	if p.dead {
		p.next = now.Add(deadEvery + m.spare)
		return
	}
	p.alive = p.alive && p.missed+1 < misses
	if p.missed++; p.missed < misses {
		p.next = now
		return
	}
	p.dead, p.alive, p.missed = true, false, 0
	p.next = now.Add(deadEvery + m.spare)
	soon := now.Add(lookAgain + m.spare)
	if m.far() {
		soon, m.looking = now, true // the list first: others may stand there by now
	}
	if soon.Before(m.look) {
		m.look = soon
	}
}

// standing are the lower IDs that are not known to be gone, lowest first.
func (m *Machine) standing() []*peer {
	var l []*peer
	for _, p := range m.lower {
		if !p.dead {
			l = append(l, p)
		}
	}
	return l
}

// far reports whether this agent is so far down the list that it is silent.
func (m *Machine) far() bool { return len(m.lower) >= Keepers+Standby }

func (m *Machine) interval() time.Duration {
	if m.far() {
		return farEvery + m.spare
	}
	return watchEvery
}

func (m *Machine) decide(now time.Time) Actions {
	a := Actions{Next: now.Add(farEvery)}
	soon := func(t time.Time) {
		if t.Before(a.Next) {
			a.Next = t
		}
	}
	standing := m.standing()
	first := standing[:min(len(standing), Keepers)]
	for _, p := range m.lower {
		switch {
		case p.asking || !p.dead && !slices.Contains(first, p):
		case now.Before(p.next):
			soon(p.next)
		default:
			p.asking = true
			a.Ask = append(a.Ask, p.id)
		}
	}
	switch {
	case len(first) == Keepers && first[0].alive && first[1].alive:
		if m.keep && m.until.IsZero() {
			m.until = now.Add(overlap)
		}
		if m.keep = m.keep && now.Before(m.until); m.keep {
			soon(m.until)
		} else {
			m.until = time.Time{}
		}
	case !m.waits(first):
		if soon := now.Add(lookAgain + m.spare); !m.keep && soon.Before(m.look) {
			m.look, m.pause = soon, lookFirst // others may have stepped in at the same time
		}
		m.keep, m.until = true, time.Time{}
	}
	if !now.Before(m.look) {
		a.Look, m.looking = true, true
		m.look = now.Add(lookAgain + m.spare) // again then, if no answer comes
	}
	soon(m.look)
	a.Keep, a.List = m.keep, m.keep || !m.far()
	return a
}

// waits reports whether a silent agent should hear more before it steps in: the list that it has asked for, or those who are
// first on it now. The standby does not wait.
func (m *Machine) waits(first []*peer) bool {
	if m.keep || !m.far() {
		return false
	}
	return m.looking || slices.ContainsFunc(first, func(p *peer) bool { return !p.alive })
}
