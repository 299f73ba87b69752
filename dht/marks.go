package dht

import (
	"sync"

	"culvert/protocol"
)

// marks are a reader's high-water marks: the newest version that it has accepted of each owner, of the last maxMarks owners or so.
type marks struct {
	mu       sync.Mutex
	new, old map[markKey]Version
}

type markKey struct {
	table protocol.Table
	owner protocol.ID
}

// maxMarks is how many are kept at least, twice that at most.
const maxMarks = 8192

func newMarks() *marks { return &marks{new: make(map[markKey]Version)} }

func (m *marks) get(t protocol.Table, owner protocol.ID) (Version, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := markKey{t, owner}
	v, ok := m.new[k]
	if !ok {
		v, ok = m.old[k]
	}
	return v, ok
}

func (m *marks) raise(r *protocol.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := markKey{r.Table, r.Owner}
	v := VersionOf(r)
	for _, g := range []map[markKey]Version{m.old, m.new} {
		if w, ok := g[k]; ok && v.Less(w) {
			v = w
		}
	}
	if len(m.new) >= maxMarks {
		m.old, m.new = m.new, make(map[markKey]Version)
	}
	m.new[k] = v
}
