package index

import (
	"hash/maphash"
	"slices"

	"culvert/protocol"
)

// keyTable finds what is held under a key, as owner or by a lookup key, at the cost of a hash and next to no memory that is not
// asked for: a walk of the ordered set would fetch a line of memory a step. It is a hash table in parts, so that growing stops
// readers for a part only, in which each place is of one entry under one key. A key that many share has one place for all.
//
// The hash is seeded, since who signs a record chooses its lookup keys.
type keyTable struct {
	seed   maphash.Seed
	parts  *[1 << partBits]part // nil before the first: most nodes hold little, and not of every table
	crowds map[protocol.ID]*crowd
}

// part is open addressing over a power of two of places, at most half of them taken: most walks stay in a line of memory.
type part struct {
	places []place
	used   int
}

// place is empty where it has no entry.
type place struct {
	hash uint64
	e    *entry // crowded: those under the key are in crowds
}

var (
	crowded = new(entry)
	nothing part // of a table without records; nobody writes there
)

// crowd is who shares a key, in order of owner.
type crowd struct{ entries []*entry }

const (
	partBits    = 6
	fewMost     = 4 // entries of one key that have places of their own
	leastPlaces = 8
)

// few are the entries of one key, in order of owner.
type few [fewMost]*entry

func (t *keyTable) hash(key *protocol.ID) uint64 { return maphash.Bytes(t.seed, key[:]) }

func (t *keyTable) part(hash uint64) *part {
	if t.parts == nil {
		return &nothing
	}
	return &t.parts[hash>>(64-partBits)]
}

func (p *part) mask() uint64 { return uint64(len(p.places) - 1) }

// owner is the entry that key owns, nil if there is none.
func (t *keyTable) owner(key *protocol.ID) *entry {
	h := t.hash(key)
	p := t.part(h)
	if len(p.places) == 0 {
		return nil
	}
	for i := h & p.mask(); ; i = (i + 1) & p.mask() {
		x := &p.places[i]
		switch {
		case x.e == nil:
			return nil
		case x.hash != h:
		case x.e == crowded:
			if c := t.crowds[*key]; c != nil {
				if k, ok := c.find(key); ok {
					return c.entries[k]
				}
				return nil
			}
		case x.e.owner == *key:
			return x.e
		}
	}
}

// under are the entries under key, in order of owner; they alias f or the table.
func (t *keyTable) under(key *protocol.ID, f *few) []*entry {
	h := t.hash(key)
	p := t.part(h)
	if len(p.places) == 0 {
		return nil
	}
	n := 0
	for i := h & p.mask(); ; i = (i + 1) & p.mask() {
		x := &p.places[i]
		switch {
		case x.e == nil:
			return f[:n]
		case x.hash != h:
		case x.e == crowded:
			if c := t.crowds[*key]; c != nil {
				return c.entries
			}
		case n < fewMost && x.e.isUnder(key):
			k := n
			for ; k > 0 && f[k-1].owner.Compare(x.e.owner) > 0; k-- {
				f[k] = f[k-1]
			}
			f[k] = x.e
			n++
		}
	}
}

// insert puts e under key, once.
func (t *keyTable) insert(key *protocol.ID, e *entry) {
	if c := t.crowds[*key]; c != nil {
		c.insert(e)
		return
	}
	if t.parts == nil {
		t.parts = new([1 << partBits]part)
	}
	h := t.hash(key)
	p := t.part(h)
	var f few
	l := t.under(key, &f)
	if slices.Contains(l, e) {
		return
	}
	if len(l) < fewMost {
		p.put(place{h, e})
		return
	}
	c := &crowd{slices.Clone(l)}
	for _, o := range l {
		p.free(p.find(h, o))
	}
	c.insert(e)
	if t.crowds == nil {
		t.crowds = make(map[protocol.ID]*crowd)
	}
	t.crowds[*key] = c
	p.put(place{h, crowded})
}

// replace puts e where old is, which has the same owner.
func (t *keyTable) replace(key *protocol.ID, old, e *entry) {
	h := t.hash(key)
	p := t.part(h)
	if i := p.find(h, old); i >= 0 {
		p.places[i].e = e
	} else if c := t.crowds[*key]; c != nil {
		if k, ok := c.find(&e.owner); ok {
			c.entries[k] = e
		}
	}
}

func (t *keyTable) remove(key *protocol.ID, e *entry) {
	h := t.hash(key)
	p := t.part(h)
	if i := p.find(h, e); i >= 0 {
		p.free(i)
	} else if c := t.crowds[*key]; c != nil {
		if k, ok := c.find(&e.owner); ok {
			c.entries = slices.Delete(c.entries, k, k+1)
		}
		if len(c.entries) == 0 {
			delete(t.crowds, *key)
			p.free(p.find(h, crowded))
		}
	}
}

// findOwner is where in l, which is in order of owner, owner's entry stands or would stand.
func findOwner(l []*entry, owner *protocol.ID) (int, bool) {
	// The owner is not handed over as the target: it would be taken to escape, and a lookup must not allocate.
	return slices.BinarySearchFunc(l, 0, func(e *entry, _ int) int { return e.owner.Compare(*owner) })
}

func (c *crowd) find(owner *protocol.ID) (int, bool) {
	return findOwner(c.entries, owner)
}

func (c *crowd) insert(e *entry) {
	if k, ok := c.find(&e.owner); !ok {
		c.entries = slices.Insert(c.entries, k, e)
	}
}

// find is the place of e under a key of hash h, -1 if there is none.
func (p *part) find(h uint64, e *entry) int {
	if len(p.places) == 0 {
		return -1
	}
	for i := h & p.mask(); p.places[i].e != nil; i = (i + 1) & p.mask() {
		if p.places[i] == (place{h, e}) {
			return int(i)
		}
	}
	return -1
}

func (p *part) put(x place) {
	if 2*(p.used+1) > len(p.places) {
		old := p.places
		p.places = make([]place, max(2*len(old), leastPlaces))
		for _, o := range old {
			if o.e != nil {
				p.set(o)
			}
		}
	}
	p.set(x)
	p.used++
}

func (p *part) set(x place) {
	i := x.hash & p.mask()
	for p.places[i].e != nil {
		i = (i + 1) & p.mask()
	}
	p.places[i] = x
}

// free empties a place and moves up what a walk would not find behind it.
func (p *part) free(at int) {
	i := uint64(at)
	for j := (i + 1) & p.mask(); p.places[j].e != nil; j = (j + 1) & p.mask() {
		if home := p.places[j].hash & p.mask(); (j-home)&p.mask() >= (j-i)&p.mask() {
			p.places[i], i = p.places[j], j
		}
	}
	p.places[i] = place{}
	if p.used--; p.used == 0 {
		p.places = nil
	}
}
