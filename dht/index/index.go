// Package index is a store's view of itself in memory: which version of what it holds, under which keys, when that expires,
// how much of it belongs to whom, what its digests are, and the bytes of as many records as a budget allows.
//
// A record of which the bytes are in memory is answered by one look into a table. When the budget is full the bytes that were not
// read since they were last looked at go first (second chance); the rest of the entry stays, so that only reading such a
// record again needs the disk.
//
// A digest sums, for each (key, record) pair of a range, the first 16 bytes of SHA-256(key ‖ SHA-256(record)): with the key,
// because a record with two keys in one range would otherwise cancel itself out.
package index

import (
	"cmp"
	"crypto/sha256"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Index is safe for concurrent use.
type Index struct {
	budget int64

	mu       sync.RWMutex
	tables   [protocol.TableEnd]table
	expiry   set[*entry]
	numbers  set[*entry]
	counts   map[protocol.Domain]dht.Counts
	live     int
	queue    []*entry // with bytes in memory, oldest first; may hold entries that have gone
	resident int64
	missing  atomic.Int64 // entries whose bytes are not in memory
	huge     hugePages    // nil for an index that is none of the large ones
}

type table struct {
	byKey keyTable
	keys  set[pair] // in order, for what asks for more than one key
}

// New makes an empty index that keeps the bytes of records up to budget in memory; 0 is no limit.
func New(budget int64) *Index {
	x := &Index{budget: budget, counts: make(map[protocol.Domain]dht.Counts)}
	for t := range x.tables {
		x.tables[t].byKey.seed = maphash.MakeSeed()
		x.tables[t].keys = set[pair]{
			compare: func(a, b pair) int {
				if c := a.key.Compare(b.key); c != 0 {
					return c
				}
				return a.e.owner.Compare(b.e.owner)
			},
			sum: func(p pair) Sum { return p.sum },
		}
	}
	byOwner := func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.table, b.table), a.owner.Compare(b.owner))
	}
	x.expiry.compare = func(a, b *entry) int { return cmp.Or(cmp.Compare(a.expires, b.expires), byOwner(a, b)) }
	x.numbers.compare = func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.owner.Domain(), b.owner.Domain()), cmp.Compare(a.number, b.number), byOwner(a, b))
	}
	return x
}

// Compare says what a Put of r would come to; known is false where nothing of its owner is held.
func (x *Index) Compare(r *protocol.Record) (res dht.Result, known bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.ownedLocked(r.Table, &r.Owner)
	if e == nil {
		return dht.Result{Outcome: dht.Stored, Held: dht.VersionOf(r)}, false
	}
	v := dht.VersionOf(r)
	switch {
	case e.version.Less(v):
		return dht.Result{Outcome: dht.Stored, Held: v}, true
	case v.Less(e.version):
		return dht.Result{Outcome: dht.Superseded, Held: e.version}, true
	case sha256.Sum256(r.Raw()) == e.hash:
		return dht.Result{Outcome: dht.Same, Held: v}, true
	}
	return dht.Result{Outcome: dht.Conflict, Held: v}, true
}

// Apply takes r in, in place of what was held of its owner.
func (x *Index) Apply(r *protocol.Record) { x.ApplyAt(r, 0) }

// ApplyAt is Apply of a record with this row on disk.
func (x *Index) ApplyAt(r *protocol.Record, row int64) { x.Take(Prepare(r), row) }

// Take is ApplyAt of a record that was prepared; of each once.
func (x *Index) Take(p Prepared, row int64) {
	e, i := p.e, 0
	e.row = row
	x.mu.Lock()
	defer x.mu.Unlock()
	t := &x.tables[e.table]
	if old := t.byKey.owner(&e.owner); old != nil && old.sameKeys(e) {
		x.forgetLocked(old)
		for k := range e.keys { // most are announced again where they were
			t.keys.replace(pair{k, p.sums[i], e})
			t.byKey.replace(&k, old, e)
			i++
		}
	} else {
		x.removeLocked(old)
		for k := range e.keys {
			t.keys.insert(pair{k, p.sums[i], e})
			t.byKey.insert(&k, e)
			i++
		}
	}
	x.live++
	x.expiry.insert(e)
	if e.table == protocol.TableRevocation {
		x.numbers.insert(e)
	}
	x.countLocked(e, 1)
	x.resident += int64(e.size)
	x.coverLocked(e)
	x.queue = append(x.queue, e)
	x.evictLocked()
}

// Remove forgets the record of owner if it is still of version v.
func (x *Index) Remove(t protocol.Table, owner protocol.ID, v dht.Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.ownedLocked(t, &owner); e != nil && e.version == v {
		x.removeLocked(e)
	}
}

func (x *Index) removeLocked(e *entry) {
	if e == nil {
		return
	}
	t := &x.tables[e.table]
	for k := range e.keys {
		t.keys.remove(pair{key: k, e: e})
		t.byKey.remove(&k, e)
	}
	x.forgetLocked(e)
}

// forgetLocked takes e out of everything but its table.
func (x *Index) forgetLocked(e *entry) {
	x.live--
	x.expiry.remove(e)
	if e.table == protocol.TableRevocation {
		x.numbers.remove(e)
	}
	x.countLocked(e, -1)
	e.gone = true
	if e.bytes == nil {
		x.missing.Add(-1)
	} else {
		x.resident -= int64(e.size)
	}
}

func (x *Index) countLocked(e *entry, n int) {
	d := e.owner.Domain()
	c := x.counts[d]
	c.Records += n
	c.Bytes += n * int(e.size)
	switch {
	case e.tombstone:
	case e.table == protocol.TableNode:
		c.Nodes += n
	case e.table == protocol.TableEndDevice:
		c.Devices += n
	}
	if c.Records == 0 {
		delete(x.counts, d)
		return
	}
	x.counts[d] = c
}

// evictLocked drops bytes until the budget is kept, and entries that have gone from the queue once they are half of it.
func (x *Index) evictLocked() {
	for n := 2 * len(x.queue); x.budget > 0 && x.resident > x.budget && n > 0; n-- {
		e := x.queue[0]
		x.queue = x.queue[1:]
		switch {
		case e.gone || e.bytes == nil:
		case e.reads.Swap(unread) != unread:
			x.queue = append(x.queue, e)
		default:
			x.resident -= int64(e.size)
			e.bytes = nil
			x.missing.Add(1)
		}
	}
	if len(x.queue) > 64+2*x.live {
		kept := make([]*entry, 0, x.live)
		for _, e := range x.queue {
			if !e.gone && e.bytes != nil {
				kept = append(kept, e)
			}
		}
		x.queue = kept
	}
}

// Len is how many records there are.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.live
}

// ownedLocked is what is held of owner, nil if nothing is.
func (x *Index) ownedLocked(t protocol.Table, owner *protocol.ID) *entry {
	if t >= protocol.TableEnd {
		return nil
	}
	return x.tables[t].byKey.owner(owner)
}

// Counts are of one domain.
func (x *Index) Counts(d protocol.Domain) dht.Counts {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.counts[d]
}

// Version is the version held of owner.
func (x *Index) Version(t protocol.Table, owner protocol.ID) (dht.Version, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.ownedLocked(t, &owner); e != nil {
		return e.version, true
	}
	return dht.Version{}, false
}

// Row is where the record of owner is on disk.
func (x *Index) Row(t protocol.Table, owner protocol.ID) (row int64, held bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.ownedLocked(t, &owner); e != nil {
		return e.row, true
	}
	return 0, false
}

// Due lists up to n of the records that have expired at now.
func (x *Index) Due(now time.Time, n int) []Ref {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var due []Ref
	x.expiry.from(func(*entry) bool { return false }, func(e *entry) bool {
		if e.expires > now.UnixMilli() || len(due) == n {
			return false
		}
		due = append(due, e.ref())
		return true
	})
	return due
}

// Resident lists the bytes of all records that are in memory.
func (x *Index) Resident() [][]byte {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var l [][]byte
	x.expiry.from(func(*entry) bool { return false }, func(e *entry) bool {
		if e.bytes != nil {
			l = append(l, e.raw())
		}
		return true
	})
	return l
}

// Digest counts and sums the (key, record) pairs at positions from…to.
func (x *Index) Digest(t protocol.Table, from, to uint64) protocol.DigestPart {
	p := protocol.DigestPart{From: from, To: to}
	if t >= protocol.TableEnd || from > to {
		return p
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, sum := x.tables[t].keys.digest(
		func(k pair) bool { return k.key.Position() < from },
		func(k pair) bool { return k.key.Position() <= to })
	p.Count, p.Sum = n, sum
	return p
}
