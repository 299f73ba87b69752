package sqlite

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"database/sql"
	"slices"
	"strings"
	"sync"

	"culvert/dht"
	"culvert/dht/index"
)

// loadSizes are for how many owners a SELECT is prepared, least first: one of 64 costs half of 64 of one, or less.
var loadSizes = [...]int{4, 16, 32, 64}

const loadMost = 64

// ownersOf is n parameters of a statement.
func ownersOf(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// loadRoom is memory for one Load, used again and again.
type loadRoom struct {
	refs   []index.Ref
	loaded []index.Loaded
	args   [loadMost]any
}

var loadRooms = sync.Pool{New: func() any { return new(loadRoom) }}

// Load implements dht.Store. What a SELECT does not bring, because it was replaced, is damaged or the disk fails, is left to
// the read of that one, which finds out why.
func (s *Store) Load(qs []dht.Query, n int) {
	x := s.index.Load()
	m := loadRooms.Get().(*loadRoom)
	defer func() {
		clear(m.refs)
		clear(m.loaded)
		clear(m.args[:])
		m.refs, m.loaded = m.refs[:0], m.loaded[:0]
		loadRooms.Put(m)
	}()
	for i := range qs {
		m.refs = x.Missing(qs[i], n, m.refs)
	}
	if len(m.refs) < 2 {
		return
	}
	slices.SortFunc(m.refs, func(a, b index.Ref) int { return cmp.Or(cmp.Compare(a.Table, b.Table), a.Owner.Compare(b.Owner)) })
	m.refs = slices.CompactFunc(m.refs, func(a, b index.Ref) bool { return a.Table == b.Table && a.Owner == b.Owner })
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return
	}
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

// some appends what can be read of refs to m.loaded; they are of one table and in order of owner.
func (h *handle) some(refs []index.Ref, m *loadRoom) {
	i := 0
	for loadSizes[i] < len(refs) {
		i++
	}
	args := m.args[:loadSizes[i]]
	for i := range args {
		args[i] = refs[min(i, len(refs)-1)].Owner[:]
	}
	st, err := h.ofSome(refs[0].Table, len(args))
	if err != nil {
		return
	}
	rows, err := st.Query(args...)
	if err != nil {
		return
	}
	defer rows.Close()
	var owner sql.RawBytes
	for rows.Next() {
		var raw []byte
		if rows.Scan(&owner, &raw) != nil {
			return
		}
		i, ok := slices.BinarySearchFunc(refs, []byte(owner), func(r index.Ref, o []byte) int { return bytes.Compare(r.Owner[:], o) })
		// The index names these very bytes by their hash, so that nothing else need be asked.
		if ok && sha256.Sum256(raw) == refs[i].Hash {
			m.loaded = append(m.loaded, index.Loaded{Ref: refs[i], Raw: raw})
		}
	}
	// rows.Err leaves fewer than asked for.
}
