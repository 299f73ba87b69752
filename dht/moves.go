package dht

import (
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// maxClaims is how many members one reading or storing believes that there is a newer map: each claim costs a question to the
// one who makes it.
const maxClaims = 2

// moves is what Lookup and StoreOp share about maps that change under them. A member that says WrongRange with a newer epoch is
// asked for that map at once. One that says so by the same map, or an older, does not serve yet: it is asked once more after
// everybody else.
type moves struct {
	epoch   uint64 // of the map by which members are asked
	pending bool   // a question for the map is out
	claimer protocol.ID
	claims  int
	general bool // the map has been asked for because nobody was left to ask
	away    []partition.Member
	again   bool      // those away have been asked a second time
	pause   time.Time // until then they are given time
}

// outside takes an answer that may be WrongRange; ok is false for any other.
func (v *moves) outside(now time.Time, e Event, a *ask, scores *Scores) (acts []Action, ok bool) {
	if e.Command != protocol.CmdWrongRange {
		return nil, false
	}
	m, err := protocol.ParsePayload[protocol.WrongRange](e.Payload)
	if err != nil {
		return nil, false
	}
	if m.Epoch <= v.epoch {
		v.away = append(v.away, a.member)
		scores.Bad(a.member.Peer.ID, now)
		return nil, true
	}
	return v.claimed(m.Epoch, a), true
}

// claimed has a member show the map that it has named.
func (v *moves) claimed(epoch uint64, a *ask) []Action {
	if v.pending || v.claims >= maxClaims {
		return nil
	}
	v.pending, v.claimer = true, a.member.Peer.ID
	v.claims++
	return []Action{{Kind: ActRefresh, Peer: a.member.Peer, Epoch: epoch}}
}

// behind takes what a member says about the map by which it has stored the record. By a newer one than ours it may keep it under
// one of its keys only, and those who serve the others have not been asked.
func (s *StoreOp) behind(st protocol.Stored, a *ask) []Action {
	if st.Map <= s.epoch {
		return nil
	}
	return s.claimed(st.Map, a)
}

// ask wants the map from anybody.
func (v *moves) ask() []Action {
	v.pending, v.general = true, true
	return []Action{{Kind: ActRefresh}}
}

// took ends a question for the map. claimed is that it was a member's claim, moved that there is another map now.
func (v *moves) took(now time.Time, e Event, scores *Scores) (claimed, moved bool) {
	claimed, moved = !v.claimer.IsZero(), e.Epoch > v.epoch
	if claimed && !moved {
		scores.Bad(v.claimer, now) // it named a map that it cannot show
	}
	v.pending, v.claimer, v.epoch = false, protocol.ID{}, max(v.epoch, e.Epoch)
	return claimed, moved
}

// secondTry are those away that members still names, once, after they were given time.
func (v *moves) secondTry(now time.Time, wait time.Duration, members []partition.Member) []partition.Member {
	if v.again || len(v.away) == 0 {
		return nil
	}
	v.again = true
	l := slices.DeleteFunc(v.away, func(a partition.Member) bool {
		return !slices.ContainsFunc(members, func(m partition.Member) bool { return m.Peer.ID == a.Peer.ID })
	})
	if len(l) > 0 {
		v.pause = now.Add(wait)
	}
	return l
}

// mapChanged goes on with whoever serves the key now.
func (l *Lookup) mapChanged(now time.Time, e Event) []Action {
	if !l.moves.pending {
		return nil
	}
	claimed, moved := l.moves.took(now, e, l.cfg.Scores)
	if claimed && !moved {
		return nil
	}
	if moved {
		l.w.queue = nil
	}
	l.w.enqueue(now, l.cfg.Scores, l.cfg.Own, l.cfg.Rand, l.w.unasked(e.Members))
	l.cfg.Members = e.Members
	if claimed && len(l.w.queue) > 0 && !l.enough(l.best()) {
		return l.w.next(now, l.payload) // without condemning those of the last wave, who have time left
	}
	return nil
}

func (l *Lookup) payload(partition.Member) protocol.Payload { return l.cfg.Target.ask(protocol.ID{}) }

// mapChanged goes on with whoever serves the keys now.
func (s *StoreOp) mapChanged(now time.Time, e Event) []Action {
	if !s.moves.pending {
		return nil
	}
	claimed, moved := s.moves.took(now, e, s.cfg.Scores)
	if claimed && !moved {
		return nil
	}
	switch {
	case len(e.Placed) == len(s.cfg.Placed):
		s.cfg.Placed = e.Placed
	case len(s.cfg.Placed) > 0:
		s.cfg.Placed[0].Members = e.Members
	}
	s.w.queue = nil
	s.enqueue(now)
	if claimed && !s.satisfied() {
		s.trim()
		if len(s.w.queue) > 0 {
			return s.w.next(now, s.payload)
		}
	}
	return nil
}

func (s *StoreOp) payload(m partition.Member) protocol.Payload {
	return protocol.Put{Key: s.key(m), Record: s.cfg.Record}
}

// keys are what EventMap is to say the members of.
func (s *StoreOp) keys() []protocol.ID {
	var l []protocol.ID
	for _, p := range s.cfg.Placed {
		l = append(l, p.Key)
	}
	return l
}
