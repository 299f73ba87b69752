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

// misses is memory for one Load, used again and again.
var misses = sync.Pool{New: func() any { return new([]index.Miss) }}

// Load implements dht.Store. What a SELECT does not bring, because it was replaced, is damaged or the disk fails, is left to
// the read of that one, which finds out why.
func (s *Store) Load(qs []dht.Query, n int) {
	room := misses.Get().(*[]index.Miss)
	l := (*room)[:0]
	defer func() {
		clear(l)
		*room = l
		misses.Put(room)
	}()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return
	}
	x := s.index.Load()
	for i := range qs {
		l = x.Missing(qs[i], n, l)
	}
	if len(l) < 2 {
		return
	}
	slices.SortFunc(l, func(a, b index.Miss) int { return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Row, b.Row)) })
	l = slices.CompactFunc(l, func(a, b index.Miss) bool { return a.Table == b.Table && a.Row == b.Row })
	for rest := l; len(rest) > 0; {
		most := 1
		for most < min(len(rest), loadMost) && rest[most].Table == rest[0].Table {
			most++
		}
		s.file.some(rest[:most])
		rest = rest[most:]
	}
	x.Fill(l...)
}

// some reads what can be read of l, which is of one table and in order of row.
func (h *handle) some(l []index.Miss) {
	// What an error leaves out is missed by its own read, which says so.
	_ = h.withReader(func(r *reader) error {
		rest := l
		return r.each(l, func(raw []byte) {
			// The index names these very bytes by their hash, so that nothing else need be asked. Rows come in order.
			sum := sha256.Sum256(raw)
			for i := range rest {
				if rest[i].Hash == sum {
					rest[i].Raw = raw
					rest = rest[i+1:]
					break
				}
			}
		})
	})
}
