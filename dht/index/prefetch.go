package index

import (
	"culvert/dht"
	"culvert/protocol"
)

const (
	line          = 64 // bytes that come from memory at once
	prefetchMost  = 64 // keys whose lines fit the nearest cache
	prefetchUnder = 3  // records of one key: more hardly fit one answer
)

// Prefetch has what is held under each of these keys brought near, the places of all keys first, then their entries, then the
// records' bytes: what one step waits for is on its way for all keys at once. The sum is of no use but that the reads are made.
func (x *Index) Prefetch(keys []dht.Key) (sum uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for len(keys) > 0 {
		n := min(len(keys), prefetchMost)
		sum += x.prefetchLocked(keys[:n])
		keys = keys[n:]
	}
	return sum
}

func (x *Index) prefetchLocked(keys []dht.Key) (sum uint64) {
	var hashes [prefetchMost]uint64
	for i := range keys {
		t := x.byKey(keys[i].Table)
		hashes[i] = t.hash(&keys[i].ID)
		if p := t.part(hashes[i]); len(p.places) > 0 {
			sum += p.places[hashes[i]&p.mask()].hash
		}
	}
	var entries [prefetchMost * prefetchUnder]*entry
	n := 0
	for i := range keys {
		p := x.byKey(keys[i].Table).part(hashes[i])
		most := prefetchUnder
		if keys[i].By == dht.ByOwner {
			most = 1
		}
		for _, e := range entries[n : n+p.some(hashes[i], entries[n:n+most])] {
			sum += uint64(e.expires) + uint64(e.lookup[0]) // the first of its lines, and the second
			n++
		}
	}
	for _, e := range entries[:n] {
		raw := e.raw()
		for i := 0; i < len(raw); i += line {
			sum += uint64(raw[i])
		}
	}
	return sum
}

// byKey is some table for every number: looking in the wrong one does no harm here.
func (x *Index) byKey(t protocol.Table) *keyTable {
	return &x.tables[min(t, protocol.TableEnd-1)].byKey
}

// some fills l with the first entries of hash h, which are most likely those under its key.
func (p *part) some(h uint64, l []*entry) (n int) {
	if len(p.places) == 0 {
		return 0
	}
	for i := h & p.mask(); n < len(l) && p.places[i].e != nil; i = (i + 1) & p.mask() {
		if x := &p.places[i]; x.hash == h {
			l[n] = x.e // or crowded, of which there is nothing to read
			n++
		}
	}
	return n
}
