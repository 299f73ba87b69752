package dht

import (
	"math/rand/v2"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// busyWait bounds for how long a machine that has nobody else to ask waits for who is busy. It beats asking the operator: a range
// that is overloaded would else bring it all of its load.
const busyWait = 3 * time.Second

// busyTries is how many others are asked at once in place of busy ones. Where more refuse, the whole range is busy: a pause comes
// before every further wave, so that who is refused does not ask everybody.
const busyTries = 2

// busyMember is one that refused, or had refused before, and when it may be asked.
type busyMember struct {
	member partition.Member
	at     time.Time
}

// enqueue lines members up in the order of their scores; who is busy comes later.
func (w *waves) enqueue(now time.Time, s *Scores, own protocol.Domain, r *rand.Rand, l []partition.Member) {
	for _, m := range s.Order(l, own, now, r) {
		if at, busy := s.later(m.Peer.ID, now); busy {
			w.busy = append(w.busy, busyMember{m, at})
			continue
		}
		w.queue = append(w.queue, m)
	}
}

// refused takes Busy from the member of a: another is asked at once, within the time of the same wave, and this one later.
func (w *waves) refused(now time.Time, a *ask, payload []byte, s *Scores, r *rand.Rand) {
	// What cannot be read is a refusal all the same; the bounds of the scores hold for what it names.
	b, _ := protocol.ParsePayload[protocol.Busy](payload)
	at := s.refused(a.member.Peer.ID, now, time.Duration(b.RetryAfter)*time.Millisecond, r)
	w.busy = append(w.busy, busyMember{a.member, at})
	if w.refusals++; w.refusals > busyTries {
		w.hold = now.Add(w.timeout/4 + time.Duration(r.Int64N(int64(w.timeout/4)+1)))
	}
}

// mayReplace reports whether another may be asked at once, within the present wave.
func (w *waves) mayReplace(now time.Time) bool {
	return w.refusals <= busyTries && w.count > 0 && now.Before(w.deadline)
}

// comeBack lines up those who were busy, once and when their time has come; wait says that this is soon enough to wait for.
func (w *waves) comeBack(now time.Time, most time.Duration) (wait bool) {
	if w.returned {
		return false
	}
	if w.back.IsZero() {
		for _, b := range w.busy { // the last of them, so that a quorum is not asked one by one
			if b.at.After(w.back) && b.at.Sub(now) <= most {
				w.back = b.at
			}
		}
		if w.back.IsZero() {
			return false
		}
	}
	if now.Before(w.back) {
		w.deadline = w.back
		return true
	}
	w.returned = true
	for _, b := range w.busy {
		if !now.Before(b.at) {
			w.queue = append(w.queue, b.member)
		}
	}
	w.busy = nil
	return false
}
