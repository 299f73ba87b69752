// Package index is a store's view of itself in memory: which version of what it holds, under which keys, when that expires,
// how much of it belongs to whom, what its digests are, and the bytes of as many records as a budget allows.
//
// A record of which the bytes are in memory is answered by one map access. When the budget is full the bytes that were not
// read since they were last looked at go first (second chance); the rest of the entry stays, so that only reading such a
// record again needs the disk.
//
// A digest sums, for each (key, record) pair of a range, the first 16 bytes of SHA-256(key ‖ SHA-256(record)): with the key,
// because a record with two keys in one range would otherwise cancel itself out.
package index

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
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
	queue    []*entry // with bytes in memory, oldest first; may hold entries that have gone
	resident int64
	missing  atomic.Int64 // entries whose bytes are not in memory
}

type table struct {
	entries map[protocol.ID]*entry
	keys    set[pair]
}

type entry struct {
	table     protocol.Table
	tombstone bool
	owner     protocol.ID
	version   dht.Version
	expires   int64 // unix ms
	size      int
	number    uint64
	hash      [32]byte
	lookups   []protocol.Hash
	row       int64 // where it is on disk

	raw  []byte // nil while only on disk; guarded by Index.mu
	gone bool
	read atomic.Bool
}

type pair struct {
	key protocol.ID
	sum Sum
	e   *entry
}

// New makes an empty index that keeps the bytes of records up to budget in memory; 0 is no limit.
func New(budget int64) *Index {
	x := &Index{budget: budget, counts: make(map[protocol.Domain]dht.Counts)}
	for t := range x.tables {
		x.tables[t].entries = make(map[protocol.ID]*entry)
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

func newEntry(r *protocol.Record) *entry {
	e := &entry{
		table: r.Table, tombstone: r.Tombstone, owner: r.Owner, version: dht.VersionOf(r), expires: r.Expires.UnixMilli(),
		hash: sha256.Sum256(r.Raw()), lookups: r.Lookups, raw: bytes.Clone(r.Raw()),
		size: len(r.Raw()),
	}
	if r.Table == protocol.TableRevocation {
		var v protocol.RevocationValue
		if protocol.Unmarshal(r.Value, &v) == nil {
			e.number = v.Number
		}
	}
	return e
}

func (e *entry) pairs(yield func(pair)) {
	one := func(k protocol.ID) {
		var b [protocol.IDSize + 32]byte
		copy(b[:], k[:])
		copy(b[protocol.IDSize:], e.hash[:])
		h := sha256.Sum256(b[:])
		yield(pair{key: k, sum: Sum(h[:16]), e: e})
	}
	one(e.owner)
	for _, h := range e.lookups {
		one(protocol.NewID(e.owner.Domain(), h))
	}
}

// Compare says what a Put of r would come to; known is false where nothing of its owner is held.
func (x *Index) Compare(r *protocol.Record) (res dht.Result, known bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.tables[r.Table].entries[r.Owner]
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
func (x *Index) ApplyAt(r *protocol.Record, row int64) {
	e := newEntry(r)
	e.row = row
	x.mu.Lock()
	defer x.mu.Unlock()
	t := &x.tables[e.table]
	if old := t.entries[e.owner]; old != nil && slices.Equal(old.lookups, e.lookups) {
		x.forgetLocked(old)
		e.pairs(func(p pair) { t.keys.replace(p) }) // most are announced again where they were
	} else {
		x.removeLocked(old)
		e.pairs(t.keys.insert)
	}
	t.entries[e.owner] = e
	x.expiry.insert(e)
	if e.table == protocol.TableRevocation {
		x.numbers.insert(e)
	}
	x.countLocked(e, 1)
	x.resident += int64(len(e.raw))
	x.queue = append(x.queue, e)
	x.evictLocked()
}

// Remove forgets the record of owner if it is still of version v.
func (x *Index) Remove(t protocol.Table, owner protocol.ID, v dht.Version) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.tables[t].entries[owner]; e != nil && e.version == v {
		x.removeLocked(e)
	}
}

func (x *Index) removeLocked(e *entry) {
	if e == nil {
		return
	}
	t := &x.tables[e.table]
	delete(t.entries, e.owner)
	e.pairs(t.keys.remove)
	x.forgetLocked(e)
}

// forgetLocked takes e out of everything but its table.
func (x *Index) forgetLocked(e *entry) {
	x.expiry.remove(e)
	if e.table == protocol.TableRevocation {
		x.numbers.remove(e)
	}
	x.countLocked(e, -1)
	e.gone = true
	if e.raw == nil {
		x.missing.Add(-1)
	} else {
		x.resident -= int64(len(e.raw))
	}
}

func (x *Index) countLocked(e *entry, n int) {
	d := e.owner.Domain()
	c := x.counts[d]
	c.Records += n
	c.Bytes += n * e.size
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
		case e.gone || e.raw == nil:
		case e.read.Swap(false):
			x.queue = append(x.queue, e)
		default:
			x.resident -= int64(len(e.raw))
			e.raw = nil
			x.missing.Add(1)
		}
	}
	live := 0
	for t := range x.tables {
		live += len(x.tables[t].entries)
	}
	if len(x.queue) > 64+2*live {
		kept := make([]*entry, 0, live)
		for _, e := range x.queue {
			if !e.gone && e.raw != nil {
				kept = append(kept, e)
			}
		}
		x.queue = kept
	}
}

// Len is how many records there are.
func (x *Index) Len() (n int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for t := range x.tables {
		n += len(x.tables[t].entries)
	}
	return n
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
	if t >= protocol.TableEnd {
		return dht.Version{}, false
	}
	if e := x.tables[t].entries[owner]; e != nil {
		return e.version, true
	}
	return dht.Version{}, false
}

// Row is where the record of owner is on disk.
func (x *Index) Row(t protocol.Table, owner protocol.ID) (row int64, held bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.tables[t].entries[owner]; e != nil {
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
	for t := range x.tables {
		for _, e := range x.tables[t].entries {
			if e.raw != nil {
				l = append(l, e.raw)
			}
		}
	}
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
