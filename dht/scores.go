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
	maxScores    = 4096
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
	v.fails, v.until = 0, time.Time{}
	s.setLocked(id, v)
}

// Bad notes silence, or an answer that was stale or unsound.
func (s *Scores) Bad(id protocol.ID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[id]
	v.until = now.Add(min(suspectFirst<<min(v.fails, 10), suspectMax))
	v.fails++
	s.setLocked(id, v)
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
		sound[0], sound[best] = sound[best], sound[0]
	}
	return append(sound, suspect...)
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
