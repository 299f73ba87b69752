package sqlite

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"sync"

	"culvert/dht"
	"culvert/dht/index"
)

// loadSizes are for how many rows a SELECT is prepared, least first: one of 64 costs half of 64 of one, or less.
var loadSizes = [...]int{4, 16, 32, 64}

const loadMost = 64

// loadRoom is memory for one Load, used again and again.
type loadRoom struct {
	refs   []index.Ref
	loaded []index.Loaded
}

var loadRooms = sync.Pool{New: func() any { return new(loadRoom) }}

// Load implements dht.Store. What a SELECT does not bring, because it was replaced, is damaged or the disk fails, is left to
// the read of that one, which finds out why.
func (s *Store) Load(qs []dht.Query, n int) {
	m := loadRooms.Get().(*loadRoom)
	defer func() {
		clear(m.refs)
		clear(m.loaded)
		m.refs, m.loaded = m.refs[:0], m.loaded[:0]
		loadRooms.Put(m)
	}()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return
	}
	x := s.index.Load()
	for i := range qs {
		m.refs = x.Missing(qs[i], n, m.refs)
	}
	if len(m.refs) < 2 {
		return
	}
	slices.SortFunc(m.refs, func(a, b index.Ref) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Row, b.Row)) })
	m.refs = slices.CompactFunc(m.refs, func(a, b index.Ref) bool { return a.Table == b.Table && a.Row == b.Row })
	for refs := m.refs; len(refs) > 0; {
		most := 1
		for most < min(len(refs), loadMost) && refs[most].Table == refs[0].Table {
			most++
		}
		s.file.some(refs[:most], m)
		refs = refs[most:]
	}
	x.Fill(m.loaded...)
}

// some appends what can be read of refs to m.loaded; they are of one table and in order of row.
func (h *handle) some(refs []index.Ref, m *loadRoom) {
	// What an error leaves out is missed by its own read, which says so.
	_ = h.withReader(func(r *reader) error {
		rest := refs
		return r.each(refs, func(raw []byte) {
			// The index names these very bytes by their hash, so that nothing else need be asked. Rows come in order.
			sum := sha256.Sum256(raw)
			for i := range rest {
				if rest[i].Hash == sum {
					m.loaded = append(m.loaded, index.Loaded{Ref: rest[i], Raw: raw})
					rest = rest[i+1:]
					break
				}
			}
		})
	})
}
