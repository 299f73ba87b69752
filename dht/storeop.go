package dht

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// Placed is one key of a record and who serves it.
type Placed struct {
	Key     protocol.ID
	Members []partition.Member
}

// StoreConfig is what a StoreOp needs to know.
type StoreConfig struct {
	Record    []byte
	Placed    []Placed           // its keys, and those that it leaves; for an everywhere table its owner at all members
	Epoch     uint64             // of the map that says where they are
	Operators []partition.Member // asked last of all
	Own       protocol.Domain
	Timeout   time.Duration
	Rand      *rand.Rand
	Scores    *Scores
}

// StoreOp is one store, as a step machine: done when for every key W = 2 different members, or the only one, have said
// Stored after their commit. A member that serves several of the keys is asked once: it keeps a record under all of its keys.
type StoreOp struct {
	cfg       StoreConfig
	w         waves
	acked     map[protocol.ID]uint64
	refused   map[protocol.ID]protocol.Stored
	operators bool
	taken     bool // by an operator that is not of the range
	moves
	done bool
	err  error
}

// NewStoreOp starts with EventTick.
func NewStoreOp(cfg StoreConfig) *StoreOp {
	w := newWaves(cfg.Timeout)
	w.size = writeQuorum
	return &StoreOp{cfg: cfg, w: w, acked: make(map[protocol.ID]uint64), refused: make(map[protocol.ID]protocol.Stored),
		moves: moves{epoch: cfg.Epoch}}
}

// Done reports whether the machine has ended.
func (s *StoreOp) Done() bool { return s.done }

// Deadline is when to step next though nothing happens.
func (s *StoreOp) Deadline() time.Time { return s.w.deadline }

// Err is nil after success, and else says what became of the record.
func (s *StoreOp) Err() error { return s.err }

// Step takes one event.
func (s *StoreOp) Step(now time.Time, e Event) []Action {
	if s.done {
		return nil
	}
	var acts []Action
	switch e.Kind {
	case EventTick:
		if s.w.count == 0 && len(s.w.queue) == 0 {
			s.enqueue(now)
		}
	case EventAnswer:
		acts = s.answered(now, e)
	case EventFailed:
		if a, ok := s.w.close(e.Tag); ok && !a.blamed {
			s.bad(a.member.Peer.ID, now)
		}
	case EventMap:
		acts = s.mapChanged(now, e)
	}
	acts = append(acts, s.proceed(now)...)
	for i := range acts {
		if acts[i].Kind == ActRefresh {
			acts[i].Keys = s.keys()
		}
	}
	return acts
}

func (s *StoreOp) bad(id protocol.ID, now time.Time) { s.cfg.Scores.bad(id, now, s.cfg.Rand) }

func (s *StoreOp) enqueue(now time.Time) {
	for _, p := range s.cfg.Placed {
		s.w.enqueue(now, s.cfg.Scores, s.cfg.Own, s.cfg.Rand, s.w.unasked(p.Members))
	}
}

func (s *StoreOp) answered(now time.Time, e Event) []Action {
	a, ok := s.w.close(e.Tag)
	if !ok {
		return nil
	}
	if acts, ok := s.outside(now, e, a, s.cfg.Scores); ok {
		return acts
	}
	id := a.member.Peer.ID
	if e.Command == protocol.CmdBusy {
		s.w.refused(now, a, e.Payload, s.cfg.Scores, s.cfg.Rand)
		if s.trim(); s.w.mayReplace(now) {
			return s.w.send(now, 1, s.payload)
		}
		return nil
	}
	st, err := protocol.ParseStored(e.Payload)
	switch {
	case e.Command != protocol.CmdStored || err != nil:
		s.bad(id, now)
	case st.Status == protocol.StatusOK:
		s.cfg.Scores.Good(id, now.Sub(a.since))
		s.acked[id] = st.Map
		return s.behind(st, a)
	case st.Status == protocol.StatusRange: // an operator has it, where nobody of the range may
		s.taken = true
	default:
		s.refused[id] = st
	}
	return nil
}

// lacking is how many more members must say Stored for p.
func (s *StoreOp) lacking(p Placed) int {
	have := 0
	for _, m := range p.Members {
		// Who goes by a map that nobody can show may keep the record under one of its keys only.
		if by, ok := s.acked[m.Peer.ID]; ok && (by <= s.epoch || len(s.cfg.Placed) == 1) {
			have++
		}
	}
	return max(0, min(writeQuorum, len(p.Members))-have)
}

func (s *StoreOp) satisfied() bool {
	all := len(s.cfg.Placed) > 0
	for _, p := range s.cfg.Placed {
		all = all && len(p.Members) > 0 && s.lacking(p) == 0
	}
	return all
}

// key is the one under which m is asked to keep the record.
func (s *StoreOp) key(m partition.Member) protocol.ID {
	for _, p := range s.cfg.Placed {
		if slices.ContainsFunc(p.Members, func(x partition.Member) bool { return x.Peer.ID == m.Peer.ID }) {
			return p.Key
		}
	}
	return s.cfg.Placed[0].Key
}

func (s *StoreOp) proceed(now time.Time) []Action {
	switch {
	case !s.satisfied():
	case s.pending:
		s.w.deadline = now.Add(time.Hour) // the driver bounds the question for the map
		return nil
	default:
		s.done = true
		return nil
	}
	if s.w.waiting(now) || now.Before(s.pause) {
		return nil
	}
	s.w.expire(now, func(id protocol.ID) { s.bad(id, now) })
	for {
		s.trim()
		if len(s.w.queue) == 0 && s.w.comeBack(now, busyWait) {
			return nil
		}
		switch {
		case len(s.w.queue) > 0:
			return s.w.next(now, s.payload)
		case s.pending:
			s.w.deadline = now.Add(time.Hour)
			return nil
		case !s.general && len(s.refused) < writeQuorum: // one word is not the range's
			s.w.deadline = now.Add(time.Hour)
			return s.ask()
		case !s.again && len(s.away) > 0 && len(s.refused) < writeQuorum:
			if s.w.queue = s.secondTry(now, s.w.timeout/2, s.members()); len(s.w.queue) > 0 {
				s.w.deadline = s.pause
				return nil
			}
		case !s.operators && len(s.refused) < writeQuorum && len(s.cfg.Placed) > 0:
			s.operators = true
			s.w.queue = s.w.unasked(s.cfg.Operators)
		default:
			s.fail()
			return nil
		}
	}
}

// trim takes out who need not be asked, since all of its keys are satisfied by now.
func (s *StoreOp) trim() {
	s.w.queue = slices.DeleteFunc(s.w.queue, func(m partition.Member) bool { return !s.needed(m) })
}

func (s *StoreOp) members() []partition.Member {
	var l []partition.Member
	for _, p := range s.cfg.Placed {
		l = append(l, p.Members...)
	}
	return l
}

func (s *StoreOp) needed(m partition.Member) bool {
	member := false
	for _, p := range s.cfg.Placed {
		if slices.ContainsFunc(p.Members, func(x partition.Member) bool { return x.Peer.ID == m.Peer.ID }) {
			if member = true; s.lacking(p) > 0 {
				return true
			}
		}
	}
	return !member // an operator, in place of all who failed
}

func (s *StoreOp) fail() {
	s.done = true
	if s.taken {
		s.err = ErrProvisional // the neutral one keeps it and has passed it on; whether it arrived nobody knows
		return
	}
	most := map[protocol.Status]int{}
	var worst protocol.Stored
	for _, st := range s.refused {
		most[st.Status]++
		if n, m := most[st.Status], most[worst.Status]; worst.Status == 0 || n > m || n == m && st.Status < worst.Status {
			worst = st
		}
	}
	if worst.Status != protocol.StatusOK {
		s.err = &RejectedError{Status: worst.Status, Held: Version{worst.Epoch, worst.Sequence}}
		return
	}
	s.err = fmt.Errorf("%w: stored at %d of %d asked", ErrUnreachable, len(s.acked), len(s.w.asks))
}
