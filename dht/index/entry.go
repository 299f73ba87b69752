package index

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync/atomic"
	"unsafe"

	"culvert/dht"
	"culvert/protocol"
)

// entry has what a lookup reads in lines of memory of its own: by owner the first, by another key the first two. Its size is one
// that the allocator aligns to lines.
type entry struct {
	owner     protocol.ID
	reads     atomic.Uint32
	expires   int64 // unix ms
	bytes     *byte // size of them, nil while they are only on disk; guarded by Index.mu
	size      int32
	table     protocol.Table
	tombstone bool
	gone      bool
	lookups   uint8

	lookup  protocol.Hash
	others  *[]protocol.Hash // past the first
	row     int64            // where it is on disk
	version dht.Version

	hash   [32]byte
	number uint64
	_      [24]byte
}

// raw are the record's bytes, nil while they are only on disk.
func (e *entry) raw() []byte {
	if e.bytes == nil {
		return nil
	}
	return unsafe.Slice(e.bytes, e.size)
}

func (e *entry) setRaw(b []byte) {
	e.bytes, e.size = unsafe.SliceData(b), int32(len(b))
}

type pair struct {
	key protocol.ID
	sum Sum
	e   *entry
}

func newEntry(r *protocol.Record) *entry {
	e := &entry{
		table: r.Table, tombstone: r.Tombstone, owner: r.Owner, version: dht.VersionOf(r), expires: r.Expires.UnixMilli(),
		hash: sha256.Sum256(r.Raw()), lookups: uint8(len(r.Lookups)),
	}
	e.setRaw(bytes.Clone(r.Raw()))
	if len(r.Lookups) > 0 {
		e.lookup = r.Lookups[0]
		if len(r.Lookups) > 1 {
			others := slices.Clone(r.Lookups[1:])
			e.others = &others
		}
	}
	if r.Table == protocol.TableRevocation {
		var v protocol.RevocationValue
		if protocol.Unmarshal(r.Value, &v) == nil {
			e.number = v.Number
		}
	}
	return e
}

// keys are what e is held under; one may come twice.
func (e *entry) keys(yield func(protocol.ID) bool) {
	if !yield(e.owner) || e.lookups > 0 && !yield(protocol.NewID(e.owner.Domain(), e.lookup)) {
		return
	}
	for _, h := range e.rest() {
		if !yield(protocol.NewID(e.owner.Domain(), h)) {
			return
		}
	}
}

func (e *entry) isUnder(key *protocol.ID) bool {
	if e.owner == *key {
		return true
	}
	if [4]byte(e.owner[:4]) != [4]byte(key[:4]) || e.lookups == 0 {
		return false
	}
	h := (*protocol.Hash)(key[4:])
	return e.lookup == *h || slices.Contains(e.rest(), *h)
}

// rest are the lookup keys past the first.
func (e *entry) rest() []protocol.Hash {
	if e.others == nil {
		return nil
	}
	return *e.others
}

// sameKeys reports whether e is held under the keys of o.
func (e *entry) sameKeys(o *entry) bool {
	return e.owner == o.owner && e.lookups == o.lookups && e.lookup == o.lookup && slices.Equal(e.rest(), o.rest())
}

// sum is what e adds to the digests by key.
func (e *entry) sum(key *protocol.ID) Sum {
	var b [protocol.IDSize + 32]byte
	copy(b[:], key[:])
	copy(b[protocol.IDSize:], e.hash[:])
	h := sha256.Sum256(b[:])
	return Sum(h[:16])
}

// Prepared is a record with all that an index computes of it, so that Take holds readers up for no longer than it must.
type Prepared struct {
	e    *entry
	sums []Sum // of its keys, in their order
}

// Prepare computes what an index is to know of r. It copies the record's bytes.
func Prepare(r *protocol.Record) Prepared {
	p := Prepared{e: newEntry(r), sums: make([]Sum, 0, 1+len(r.Lookups))}
	for k := range p.e.keys {
		p.sums = append(p.sums, p.e.sum(&k))
	}
	return p
}
