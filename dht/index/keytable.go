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
	seed  maphash.Seed
	parts [256]part
}

// part is open addressing over a power of two of places, at most three of four of them taken.
type part struct {
	places []place
	used   int
}

// place is empty where it has neither.
type place struct {
	hash  uint64
	e     *entry
	crowd *crowd
}

// crowd is who shares a key, in order of owner.
type crowd struct {
	key     protocol.ID
	entries []*entry
}

const (
	fewMost     = 4 // entries of one key that have places of their own
	leastPlaces = 8
)

// few are the entries of one key, in order of owner.
type few [fewMost]*entry

func (t *keyTable) hash(key *protocol.ID) uint64 { return maphash.Bytes(t.seed, key[:]) }

func (t *keyTable) part(hash uint64) *part { return &t.parts[hash>>56] }

func (p *part) mask() uint64 { return uint64(len(p.places) - 1) }

// owner is the entry that key owns, nil if there is none.
func (t *keyTable) owner(key *protocol.ID) *entry {
	h := t.hash(key)
	p := t.part(h)
	if len(p.places) == 0 {
		return nil
	}
	for i := h & p.mask(); ; i = (i + 1) & p.mask() {
		switch x := &p.places[i]; {
		case x.e != nil:
			if x.hash == h && x.e.owner == *key {
				return x.e
			}
		case x.crowd == nil:
			return nil
		case x.hash == h && x.crowd.key == *key:
			if k, ok := x.crowd.find(key); ok {
				return x.crowd.entries[k]
			}
			return nil
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
		switch x := &p.places[i]; {
		case x.e != nil:
			if x.hash != h || n == fewMost || !x.e.isUnder(key) {
				continue
			}
			k := n
			for ; k > 0 && f[k-1].owner.Compare(x.e.owner) > 0; k-- {
				f[k] = f[k-1]
			}
			f[k] = x.e
			n++
		case x.crowd == nil:
			return f[:n]
		case x.hash == h && x.crowd.key == *key:
			return x.crowd.entries
		}
	}
}

// insert puts e under key, once.
func (t *keyTable) insert(key *protocol.ID, e *entry) {
	h := t.hash(key)
	p := t.part(h)
	if c := p.crowdOf(h, key); c >= 0 {
		p.places[c].crowd.insert(e)
		return
	}
	var f few
	l := t.under(key, &f)
	if slices.Contains(l, e) {
		return
	}
	if len(l) < fewMost {
		p.put(place{hash: h, e: e})
		return
	}
	c := &crowd{key: *key, entries: slices.Clone(l)}
	for _, o := range l {
		p.free(p.placeOf(h, o))
	}
	c.insert(e)
	p.put(place{hash: h, crowd: c})
}

// replace puts e where old is, which has the same owner.
func (t *keyTable) replace(key *protocol.ID, old, e *entry) {
	h := t.hash(key)
	p := t.part(h)
	if i := p.placeOf(h, old); i >= 0 {
		p.places[i].e = e
	} else if i := p.crowdOf(h, key); i >= 0 {
		c := p.places[i].crowd
		if k, ok := c.find(&e.owner); ok {
			c.entries[k] = e
		}
	}
}

func (t *keyTable) remove(key *protocol.ID, e *entry) {
	h := t.hash(key)
	p := t.part(h)
	if i := p.placeOf(h, e); i >= 0 {
		p.free(i)
	} else if i := p.crowdOf(h, key); i >= 0 {
		c := p.places[i].crowd
		if k, ok := c.find(&e.owner); ok {
			c.entries = slices.Delete(c.entries, k, k+1)
		}
		if len(c.entries) == 0 {
			p.free(i)
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

func (x *place) empty() bool { return x.e == nil && x.crowd == nil }

// first is the first place of hash h that is as is says, -1 where there is none.
func (p *part) first(h uint64, is func(*place) bool) int {
	if len(p.places) == 0 {
		return -1
	}
	for i := h & p.mask(); !p.places[i].empty(); i = (i + 1) & p.mask() {
		if x := &p.places[i]; x.hash == h && is(x) {
			return int(i)
		}
	}
	return -1
}

func (p *part) placeOf(h uint64, e *entry) int {
	return p.first(h, func(x *place) bool { return x.e == e })
}

func (p *part) crowdOf(h uint64, key *protocol.ID) int {
	return p.first(h, func(x *place) bool { return x.crowd != nil && x.crowd.key == *key })
}

func (p *part) put(x place) {
	if 4*(p.used+1) > 3*len(p.places) {
		old := p.places
		p.places = make([]place, max(2*len(old), leastPlaces))
		for _, o := range old {
			if !o.empty() {
				p.set(o)
			}
		}
	}
	p.set(x)
	p.used++
}

func (p *part) set(x place) {
	i := x.hash & p.mask()
	for !p.places[i].empty() {
		i = (i + 1) & p.mask()
	}
	p.places[i] = x
}

// free empties a place and moves up what a walk would not find behind it.
func (p *part) free(at int) {
	i := uint64(at)
	for j := (i + 1) & p.mask(); !p.places[j].empty(); j = (j + 1) & p.mask() {
		if home := p.places[j].hash & p.mask(); (j-home)&p.mask() >= (j-i)&p.mask() {
			p.places[i], i = p.places[j], j
		}
	}
	p.places[i] = place{}
	if p.used--; p.used == 0 {
		p.places = nil
	}
}
