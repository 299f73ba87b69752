package index

import (
	"slices"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Ref names one version of one record. Raw is nil where its bytes are not in memory.
type Ref struct {
	Table   protocol.Table
	Owner   protocol.ID
	Version dht.Version
	Hash    [32]byte
	Expires time.Time
	Raw     []byte
}

func (e *entry) ref() Ref {
	return Ref{e.table, e.owner, e.version, e.hash, time.UnixMilli(e.expires), e.raw}
}

// Get finds the current record of owner; its Raw may be nil.
func (x *Index) Get(t protocol.Table, owner protocol.ID, now time.Time) (Ref, bool) {
	if t >= protocol.TableEnd {
		return Ref{}, false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.tables[t].entries[owner]
	if e == nil || e.expires <= now.UnixMilli() {
		return Ref{}, false
	}
	if x.budget > 0 && !e.read.Load() {
		e.read.Store(true)
	}
	return e.ref(), true
}

// Held finds a record, expired or not, if it is still of this version.
func (x *Index) Held(t protocol.Table, h dht.Held) (Ref, bool) {
	if t >= protocol.TableEnd {
		return Ref{}, false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.tables[t].entries[h.Owner]
	if e == nil || e.version != h.Version {
		return Ref{}, false
	}
	return e.ref(), true
}

// Fill puts bytes that were read from disk back into memory, if they are still those of the version held.
func (x *Index) Fill(r Ref, raw []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.tables[r.Table].entries[r.Owner]
	if e == nil || e.hash != r.Hash || e.raw != nil {
		return
	}
	e.raw = raw
	e.read.Store(true)
	x.missing.Add(-1)
	x.resident += int64(len(raw))
	x.queue = append(x.queue, e)
	x.evictLocked()
}

// Select fills dst with what q selects.
func (x *Index) Select(q dht.Query, dst []Ref) int {
	if q.Table >= protocol.TableEnd || len(dst) == 0 {
		return 0
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	now := q.Now.UnixMilli()
	n := 0
	take := func(e *entry) bool {
		if e.expires > now {
			if x.budget > 0 {
				e.read.Store(true)
			}
			dst[n] = e.ref()
			n++
		}
		return n < len(dst)
	}
	keys := &x.tables[q.Table].keys
	switch q.By {
	case dht.ByKey:
		keys.from(func(p pair) bool {
			c := p.key.Compare(q.Key)
			return c < 0 || c == 0 && !q.After.IsZero() && p.e.owner.Compare(q.After) <= 0
		}, func(p pair) bool { return p.key == q.Key && take(p.e) })
	case dht.ByDomain:
		start := protocol.NewID(q.Key.Domain(), protocol.Hash{})
		keys.from(func(p pair) bool { return p.key.Compare(start) < 0 || !q.After.IsZero() && p.key.Compare(q.After) <= 0 },
			func(p pair) bool {
				return p.key.Domain() == q.Key.Domain() && (p.key != p.e.owner || take(p.e))
			})
	case dht.ByNumber:
		if q.Table != protocol.TableRevocation {
			return 0
		}
		d := q.Key.Domain()
		x.numbers.from(func(e *entry) bool {
			return e.owner.Domain() < d || e.owner.Domain() == d && e.number <= q.Since
		}, func(e *entry) bool { return e.owner.Domain() == d && take(e) })
	case dht.ByPosition:
		n = x.selectRangeLocked(keys, q, dst)
	}
	return n
}

// selectRangeLocked keeps the len(dst) smallest owners after q.After while it walks the range in order of key.
func (x *Index) selectRangeLocked(keys *set[pair], q dht.Query, dst []Ref) int {
	now, n := q.Now.UnixMilli(), 0
	keys.from(func(p pair) bool { return p.key.Position() < q.From }, func(p pair) bool {
		if p.key.Position() > q.To {
			return false
		}
		o := p.e.owner
		if p.e.expires <= now || !q.After.IsZero() && o.Compare(q.After) <= 0 || n == len(dst) && o.Compare(dst[n-1].Owner) >= 0 {
			return true
		}
		i, dup := slices.BinarySearchFunc(dst[:n], o, func(r Ref, o protocol.ID) int { return r.Owner.Compare(o) })
		if dup {
			return true
		}
		if n < len(dst) {
			n++
		}
		copy(dst[i+1:n], dst[i:n-1])
		dst[i] = p.e.ref()
		return true
	})
	return n
}

// Cached reports whether the first n records that q selects, or for ByKey also the record that Key owns, are in memory.
func (x *Index) Cached(q dht.Query, n int) bool {
	if x.missing.Load() == 0 {
		return true
	}
	refs := make([]Ref, min(n, 64))
	for _, r := range refs[:x.Select(q, refs)] {
		if r.Raw == nil {
			return false
		}
	}
	return true
}
