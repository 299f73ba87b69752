package dht

import (
	"math/rand/v2"
	"sync"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	suspectFirst = 30 * time.Second // doubled with every failure in a row
	suspectMax   = 10 * time.Minute
	busyLeast    = 50 * time.Millisecond // whatever a busy peer says: it is believed within these bounds
	busyMax      = 30 * time.Second
	maxScores    = 4096
	// nearBy is by how much round trips may differ that are as good as each other, besides a quarter of the better one.
	nearBy = 2 * time.Millisecond
)

// Scores remembers which super-nodes answer well. Safe for concurrent use.
type Scores struct {
	mu sync.Mutex
	of map[protocol.ID]score
}

type score struct {
	rtt   time.Duration // smoothed; 0 is unknown
	fails int           // in a row
	until time.Time     // suspected until then
	busy  int           // refusals in a row
	later time.Time     // not to be asked before
}

// Standing is what is remembered of one super-node.
type Standing struct {
	RTT     time.Duration // smoothed; 0 is unknown
	Fails   int           // in a row
	Suspect bool          // failed lately, so that others are asked before it
	Busy    bool          // said that it is busy, and for how long
}

// NewScores makes an empty memory.
func NewScores() *Scores { return &Scores{of: make(map[protocol.ID]score)} }

// Good notes a sound answer after rtt.
func (s *Scores) Good(id protocol.ID, rtt time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[id]
	if rtt = max(rtt, 1); v.rtt == 0 {
		v.rtt = rtt
	} else {
		v.rtt += (rtt - v.rtt) / 4
	}
	v.fails, v.until, v.busy, v.later = 0, time.Time{}, 0, time.Time{}
	s.setLocked(id, v)
}

// Bad notes silence, or an answer that was stale or unsound.
func (s *Scores) Bad(id protocol.ID, now time.Time) { s.bad(id, now, nil) }

// bad spreads the time by a quarter either way: those who saw one peer fail together do not all try it again together.
func (s *Scores) bad(id protocol.ID, now time.Time, r *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[id]
	d := min(suspectFirst<<min(v.fails, 10), suspectMax)
	if r != nil {
		d += time.Duration(r.Int64N(int64(d/2))) - d/4
	}
	v.until = now.Add(d)
	v.fails++
	s.setLocked(id, v)
}

// refused notes that a peer is busy: it is sound, and is asked again after what it named, doubled with every refusal in a row
// and up to half as much more, so that those who were refused together do not come back together.
func (s *Scores) refused(id protocol.ID, now time.Time, after time.Duration, r *rand.Rand) (until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[id]
	if now.Before(v.later) { // asked together with the one that was refused first: that is one refusal
		return v.later
	}
	d := min(max(after, busyLeast), busyMax)
	d = min(d<<min(v.busy, 10), busyMax)
	v.later = now.Add(d + time.Duration(r.Int64N(int64(d/2))))
	v.busy++
	s.setLocked(id, v)
	return v.later
}

// later is when a busy peer may be asked again; ok is false where it may be now.
func (s *Scores) later(id protocol.ID, now time.Time) (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = s.of[id].later
	return at, now.Before(at)
}

// Standing is what is remembered of a peer; ok is false where that is nothing.
func (s *Scores) Standing(id protocol.ID, now time.Time) (st Standing, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.of[id]
	return Standing{RTT: v.rtt, Fails: v.fails, Suspect: v.fails > 0 && !now.After(v.until), Busy: now.Before(v.later)}, ok
}

func (s *Scores) setLocked(id protocol.ID, v score) {
	if _, ok := s.of[id]; !ok && len(s.of) >= maxScores {
		for other := range s.of { // an arbitrary one; they are learnt again in one answer
			delete(s.of, other)
			break
		}
	}
	s.of[id] = v
}

// RTT is the smoothed round-trip time of a peer that is not suspected; ok is false where nothing is known.
func (s *Scores) RTT(id protocol.ID, now time.Time) (rtt time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[id]
	return v.rtt, v.rtt > 0 && now.After(v.until)
}

// Suspect reports whether a peer failed lately.
func (s *Scores) Suspect(id protocol.ID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.After(s.of[id].until)
}

// Order is in which order to ask: first the best by round-trip time, own domain's before others, then the rest at random so
// that nobody can place himself; those who failed lately come last.
func (s *Scores) Order(members []partition.Member, own protocol.Domain, now time.Time, r *rand.Rand) []partition.Member {
	var sound, suspect []partition.Member
	for _, m := range members {
		if s.Suspect(m.Peer.ID, now) {
			suspect = append(suspect, m)
		} else {
			sound = append(sound, m)
		}
	}
	for _, l := range [][]partition.Member{sound, suspect} {
		r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	}
	best := 0
	for i := range sound {
		if s.before(sound[i], sound[best], own, now) {
			best = i
		}
	}
	if len(sound) > 0 {
		best = s.near(sound, best, own, now, r)
		sound[0], sound[best] = sound[best], sound[0]
	}
	return append(sound, suspect...)
}

// near picks any of those that are about as good as the best: else all who are at one place would ask the same one, and when it
// dies all together the next.
func (s *Scores) near(l []partition.Member, best int, own protocol.Domain, now time.Time, r *rand.Rand) int {
	rtt, ok := s.RTT(l[best].Peer.ID, now)
	if !ok {
		return best
	}
	chosen, n := best, 0
	for i, m := range l {
		d, ok := s.RTT(m.Peer.ID, now)
		if ok && d <= rtt+rtt/4+nearBy && (m.Domain == own) == (l[best].Domain == own) {
			if n++; r.IntN(n) == 0 {
				chosen = i
			}
		}
	}
	return chosen
}

func (s *Scores) before(a, b partition.Member, own protocol.Domain, now time.Time) bool {
	if x, y := a.Domain == own, b.Domain == own; x != y {
		return x
	}
	ra, oka := s.RTT(a.Peer.ID, now)
	rb, okb := s.RTT(b.Peer.ID, now)
	if oka != okb {
		return oka
	}
	return oka && ra < rb
}
