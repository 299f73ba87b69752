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
	Row     int64

	entry *entry
}

func (e *entry) ref() Ref {
	return Ref{e.table, e.owner, e.version, e.hash, time.UnixMilli(e.expires), e.raw(), e.row, e}
}

// How an entry was read since its place in the queue was looked at last.
const (
	unread uint32 = iota
	fetched
	read
)

// touch notes that e was read. Many readers read the same, so it is written only where it says otherwise. The one for whom the
// bytes were fetched is no sign that others will ask for them too. Who walks a range asks for all of it, which says nothing about
// what is asked for next.
func (x *Index) touch(e *entry, by dht.By) {
	if x.budget == 0 || by == dht.ByPosition {
		return
	}
	switch e.reads.Load() {
	case unread:
		e.reads.Store(read)
	case fetched:
		e.reads.Store(unread)
	}
}

// Get finds the current record of owner; its Raw may be nil.
func (x *Index) Get(t protocol.Table, owner protocol.ID, now time.Time) (Ref, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.ownedLocked(t, &owner)
	if e == nil || e.expires <= now.UnixMilli() {
		return Ref{}, false
	}
	x.touch(e, dht.ByOwner)
	return e.ref(), true
}

// Bytes are those of the current record of owner if they are in memory; held is false where there is no such record.
func (x *Index) Bytes(t protocol.Table, owner protocol.ID, now time.Time) (raw []byte, held bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.ownedLocked(t, &owner)
	if e == nil || e.expires <= now.UnixMilli() {
		return nil, false
	}
	x.touch(e, dht.ByOwner)
	return e.raw(), true
}

// Held finds a record, expired or not, if it is still of this version.
func (x *Index) Held(t protocol.Table, h dht.Held) (Ref, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.ownedLocked(t, &h.Owner)
	if e == nil || e.version != h.Version {
		return Ref{}, false
	}
	return e.ref(), true
}

// Miss is a record whose bytes are on disk only: where, and what they must be.
type Miss struct {
	Table protocol.Table
	Row   int64
	Hash  [32]byte
	Raw   []byte // once they are read

	entry *entry
}

// Read is the miss of r with the bytes that were read for it.
func (r *Ref) Read(raw []byte) Miss { return Miss{r.Table, r.Row, r.Hash, raw, r.entry} }

// Fill puts bytes that were read from disk back into memory, where they are still those of the version held.
func (x *Index) Fill(l ...Miss) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range l {
		e := l[i].entry
		if l[i].Raw == nil || e.gone || e.bytes != nil {
			continue
		}
		e.setRaw(l[i].Raw)
		e.reads.Store(fetched)
		x.missing.Add(-1)
		x.resident += int64(e.size)
		x.queue = append(x.queue, e)
	}
	x.evictLocked()
}

// Items fills dst with what q selects; whole is false where the bytes of one of them are not in memory.
func (x *Index) Items(q dht.Query, dst []dht.Item) (n int, whole bool) {
	whole = true
	x.selectUpTo(q, len(dst), func(i int, e *entry) {
		x.touch(e, q.By)
		dst[i] = dht.Item{Owner: e.owner, Raw: e.raw()}
		whole = whole && e.bytes != nil
		n = i + 1
	})
	return n, whole
}

// Select fills dst with what q selects.
func (x *Index) Select(q dht.Query, dst []Ref) (n int) {
	x.selectUpTo(q, len(dst), func(i int, e *entry) {
		x.touch(e, q.By)
		dst[i] = e.ref()
		n = i + 1
	})
	return n
}

// Missing appends those of the first n that q selects of which the bytes are not in memory.
func (x *Index) Missing(q dht.Query, n int, dst []Miss) []Miss {
	x.selectUpTo(q, n, func(_ int, e *entry) {
		if e.bytes == nil {
			dst = append(dst, Miss{e.table, e.row, e.hash, nil, e})
		}
	})
	return dst
}

// Whole reports whether the bytes of all records are in memory.
func (x *Index) Whole() bool { return x.missing.Load() == 0 }

// Cached reports whether the bytes of the first n records that q selects are in memory.
func (x *Index) Cached(q dht.Query, n int) bool {
	if x.Whole() {
		return true
	}
	whole := true
	x.selectUpTo(q, n, func(_ int, e *entry) { whole = whole && e.bytes != nil })
	return whole
}

// selectUpTo gives the first n entries that q selects to take, under the lock, numbered from 0.
func (x *Index) selectUpTo(q dht.Query, n int, take func(int, *entry)) {
	if q.Table >= protocol.TableEnd || n == 0 {
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	now, i := q.Now.UnixMilli(), 0
	one := func(e *entry) bool {
		if e.expires > now {
			take(i, e)
			i++
		}
		return i < n
	}
	t, keys := &x.tables[q.Table].byKey, &x.tables[q.Table].keys
	switch q.By {
	case dht.ByOwner:
		if e := t.owner(&q.Key); e != nil {
			one(e)
		}
	case dht.ByKey:
		var f few
		for _, e := range after(t.under(&q.Key, &f), &q.After) {
			if !one(e) {
				return
			}
		}
	case dht.ByDomain:
		start := protocol.NewID(q.Key.Domain(), protocol.Hash{})
		keys.from(func(p pair) bool { return p.key.Compare(start) < 0 || !q.After.IsZero() && p.key.Compare(q.After) <= 0 },
			func(p pair) bool {
				return p.key.Domain() == q.Key.Domain() && (p.key != p.e.owner || one(p.e))
			})
	case dht.ByNumber:
		if q.Table != protocol.TableRevocation {
			return
		}
		d := q.Key.Domain()
		x.numbers.from(func(e *entry) bool {
			return e.owner.Domain() < d || e.owner.Domain() == d && e.number <= q.Since
		}, func(e *entry) bool { return e.owner.Domain() == d && one(e) })
	case dht.ByPosition:
		for i, e := range x.rangeLocked(keys, q, n) {
			take(i, e)
		}
	}
}

// after is what of l, in order of owner, comes after the one given, if one is.
func after(l []*entry, last *protocol.ID) []*entry {
	if last.IsZero() {
		return l
	}
	i, found := findOwner(l, last)
	if found {
		i++
	}
	return l[i:]
}

// rangeLocked keeps the n smallest owners after q.After while it walks the range in order of key.
func (x *Index) rangeLocked(keys *set[pair], q dht.Query, n int) []*entry {
	now := q.Now.UnixMilli()
	var l []*entry
	keys.from(func(p pair) bool { return p.key.Position() < q.From }, func(p pair) bool {
		if p.key.Position() > q.To {
			return false
		}
		o := p.e.owner
		if p.e.expires <= now || !q.After.IsZero() && o.Compare(q.After) <= 0 || len(l) == n && o.Compare(l[n-1].owner) >= 0 {
			return true
		}
		i, dup := slices.BinarySearchFunc(l, o, func(e *entry, o protocol.ID) int { return e.owner.Compare(o) })
		if dup {
			return true
		}
		if len(l) == n {
			l = l[:n-1]
		}
		l = slices.Insert(l, i, p.e)
		return true
	})
	return l
}
