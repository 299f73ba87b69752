package carrier

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// hopelessAfter failures in a row, and no success, a class counts as stopped by a firewall, for hopelessFor.
	hopelessAfter = 2
	hopelessFor   = 5 * time.Minute
)

// Memory is what was learned of this network: which classes of ways pass. It is safe for concurrent use.
type Memory struct {
	mu sync.Mutex
	of map[Class]learned
}

type learned struct {
	works  bool
	fails  int // in a row
	failed time.Time
}

// Note takes in how a try went.
func (m *Memory) Note(now time.Time, c Class, worked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = make(map[Class]learned)
	}
	l := m.of[c]
	if worked {
		l = learned{works: true}
	} else {
		l.fails++
		l.failed = now
		l.works = l.works && l.fails < hopelessAfter
	}
	m.of[c] = l
}

// Hopeless reports whether ways of a class have only failed lately.
func (m *Memory) Hopeless(now time.Time, c Class) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.of[c]
	return !l.works && l.fails >= hopelessAfter && now.Sub(l.failed) < hopelessFor
}

// Sort brings what has worked to the front and what has failed to the end, and else keeps the order.
func (m *Memory) Sort(now time.Time, ways []Way) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rank := func(c Class) int {
		l := m.of[c]
		switch {
		case l.works:
			return 0
		case l.fails > 0 && now.Sub(l.failed) < hopelessFor:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(ways, func(a, b Way) int { return cmp.Compare(rank(a.Class), rank(b.Class)) })
}

// Reset forgets everything: this is another network.
func (m *Memory) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.of)
}
