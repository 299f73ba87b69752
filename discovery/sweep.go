package discovery

import (
	"net/netip"
	"slices"
	"time"
)

const (
	defaultRate = 200  // addresses a second: a thousand take five seconds, and no switch takes it for a storm
	defaultSpan = 1024 // addresses of one prefix: a /22
	maxTargets  = 4 * defaultSpan
	maxGap      = time.Second
	maxCatchUp  = 10 // requests that a late timer may send at once
)

// target is an address to ask for, on an interface.
type target struct {
	Index int
	Addr  netip.Addr
}

// sweepOrder lists what to ask: the hints, then IPv4 prefix by prefix in the order of ifs, each outward from our own address,
// because devices stand near each other; of a prefix larger than span only the span around us.
func sweepOrder(ifs []Interface, hints []target, span int) []target {
	var out []target
	seen := make(map[target]bool)
	add := func(t target) {
		if i := slices.IndexFunc(ifs, func(i Interface) bool { return i.Index == t.Index }); i >= 0 &&
			ifs[i].reaches(t.Addr) && !seen[t] && len(out) < maxTargets {
			seen[t] = true
			out = append(out, t)
		}
	}
	for _, t := range hints {
		add(t)
	}
	for _, i := range ifs {
		for _, p := range i.Prefixes {
			if !p.Addr().Is4() || i.Layer3 {
				continue
			}
			down, up := p.Addr().Prev(), p.Addr().Next()
			for n := 1; n < span && (p.Contains(down) || p.Contains(up)); n++ {
				if pick := n%2 == 1; (pick && p.Contains(up)) || !p.Contains(down) {
					add(target{i.Index, up})
					up = up.Next()
				} else {
					add(target{i.Index, down})
					down = down.Prev()
				}
			}
		}
	}
	return out
}

// sweep paces the asking of a list of targets, some passes long. It has no clock of its own.
type sweep struct {
	targets  []target
	gap      time.Duration // between two requests
	slow     time.Duration // the gap while the kernel has no room
	passes   int
	next     int
	due      time.Time
	answered map[target]bool
	refusals int
}

func newSweep(now time.Time, targets []target, rate, passes int) *sweep {
	gap := time.Second / time.Duration(max(rate, 1))
	return &sweep{targets: targets, gap: gap, slow: gap, passes: passes, due: now, answered: make(map[target]bool)}
}

// step says which target to ask now; if none is due, how long to wait; more is false when all have been asked.
func (s *sweep) step(now time.Time) (t target, wait time.Duration, more bool) {
	for s.next < len(s.targets) && s.answered[s.targets[s.next]] {
		s.next++
	}
	if s.next >= len(s.targets) {
		s.passes--
		if s.passes <= 0 || len(s.answered) >= len(s.targets) {
			s.passes = 0
			return target{}, 0, false
		}
		s.next = 0
		return s.step(now)
	}
	if wait := s.due.Sub(now); wait > 0 {
		return target{}, wait, true
	}
	if late := now.Add(-maxCatchUp * s.gap); s.due.Before(late) {
		s.due = late
	}
	t = s.targets[s.next]
	s.next++
	s.due = s.due.Add(s.gap)
	return t, 0, true
}

// answer notes that t needs no further asking.
func (s *sweep) answer(t target) { s.answered[t] = true }

// refuse takes back the last step: the kernel has no room for another unresolved neighbour. The pause doubles up to a second; a
// table that stays full is not worth more than one round of refusals.
func (s *sweep) refuse(now time.Time) {
	s.refusals++
	if s.refusals > len(s.targets) || s.next == 0 {
		return
	}
	s.next--
	s.slow = min(2*s.slow, maxGap)
	s.due = now.Add(s.slow)
}

// accept ends the slowing down.
func (s *sweep) accept() { s.slow = s.gap }
