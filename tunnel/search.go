package tunnel

import (
	"time"

	"culvert/protocol"
)

const (
	// useAfter is how long after a look for better routes a new connection on a worse one starts the next. It doubles up to
	// mostUse with each look that finds nothing.
	useAfter = 2 * time.Second
	mostUse  = 5 * time.Minute
	// mostBackoff bounds how rarely a better route is looked for by itself.
	mostBackoff = 10 * time.Minute
	// newsAfter is how soon after news one looks again: what was announced may be on its way still. News themselves count so
	// often at most.
	newsAfter = time.Second
	newsEvery = 2 * time.Second
)

// searchKey is what a search is for: tunnels that could be bettered by the same routes to the same node share it.
type searchKey struct {
	local, node protocol.ID
	routes      uint8 // the better ones, by rank
}

// search decides when better routes are looked for again. It has no clock.
type search struct {
	last time.Time     // the latest look
	told time.Time     // the latest news
	idle time.Duration // to the next look by itself
	use  time.Duration // to the next one because of use
}

// newSearch starts after a look.
func newSearch(now time.Time, retry time.Duration) *search {
	return &search{last: now, idle: retry, use: min(useAfter, retry)}
}

// due reports whether to look now, and counts that as a look.
func (s *search) due(now time.Time, used bool) bool {
	wait := s.idle
	if used {
		wait = min(wait, s.use)
	}
	if now.Sub(s.last) < wait {
		return false
	}
	s.last = now
	s.idle, s.use = min(2*s.idle, mostBackoff), min(2*s.use, mostUse)
	return true
}

// news makes the next look due at once; false where that was said a moment ago.
func (s *search) news(now time.Time) bool {
	if now.Sub(s.told) < newsEvery {
		return false
	}
	s.told, s.last = now, time.Time{}
	s.idle, s.use = min(s.idle, newsAfter/2), min(s.use, newsAfter/2) // the look that comes now doubles them
	return true
}

// searchDue asks the search of a key.
func (m *Manager) searchDue(k searchKey, now time.Time, used bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.searches[k]
	return s != nil && s.due(now, used)
}

// searchStart makes a search where there is none. looked: one has just been done, so that the next is not due yet; hurry: the
// next one is due at once.
func (m *Manager) searchStart(k searchKey, now time.Time, looked, hurry bool) {
	if k.routes == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.searches[k]
	if s == nil {
		s = newSearch(now, m.cfg.Retry)
		m.searches[k] = s
	}
	if looked {
		s.last = now
	}
	if hurry {
		*s = *newSearch(time.Time{}, m.cfg.Retry)
	}
}

// searchSoon makes the searches due for which which reports true, unless they were told so a moment ago, and reports whether
// there is any.
func (m *Manager) searchSoon(now time.Time, which func(searchKey) bool) (due bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, s := range m.searches {
		if which(k) && s.news(now) {
			due = true
		}
	}
	return due
}

// forgetSearchesLocked drops what nobody has asked for since long.
func (m *Manager) forgetSearchesLocked(now time.Time) {
	for k, s := range m.searches {
		if now.Sub(s.last) > 2*mostBackoff && now.Sub(s.told) > mostBackoff {
			delete(m.searches, k)
		}
	}
}

// betterThan are the routes better than r, and their set.
func betterThan(r Route, among []Route) (l []Route, set uint8) {
	for _, o := range among {
		if o.rank() < r.rank() {
			l, set = append(l, o), set|1<<o.rank()
		}
	}
	return l, set
}
