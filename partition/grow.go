package partition

import (
	"cmp"
	"slices"
)

// pool is the reserve by customer, so that one with a thousand super-nodes is drawn no more often than one with a single one.
type pool struct {
	r    Random
	keys []group
	of   map[group][]*node
}

func newPool(ms []*node, r Random) *pool {
	pl := &pool{r: r, of: make(map[group][]*node)}
	ms = fit(ms)
	slices.SortFunc(ms, func(a, b *node) int { return a.c.ID.Compare(b.c.ID) })
	shuffle(r, ms)
	for _, m := range ms {
		k := m.customer()
		if pl.of[k] == nil {
			pl.keys = append(pl.keys, k)
		}
		pl.of[k] = append(pl.of[k], m)
	}
	return pl
}

// fit are those of ms that may be given something to fill.
func fit(ms []*node) []*node {
	return slices.DeleteFunc(slices.Clone(ms), func(m *node) bool { return m.c.Paused })
}

// customer is the domain that m counts for, 0 for a neutral one.
func (m *node) customer() group {
	if len(m.groups) > 0 && m.groups[0]>>62 == groupDomain>>62 {
		return m.groups[0]
	}
	return 0
}

// take removes and returns one that is ok: first a customer by chance, which may be ruled out as a whole, then one of its
// super-nodes.
func (pl *pool) take(customer func(group) bool, ok func(*node) bool) *node {
	for i := range pl.keys {
		j := i + pl.r.IntN(len(pl.keys)-i)
		pl.keys[i], pl.keys[j] = pl.keys[j], pl.keys[i]
		k := pl.keys[i]
		if k != 0 && !customer(k) {
			continue
		}
		at := slices.IndexFunc(pl.of[k], ok)
		if at < 0 {
			continue
		}
		m := pl.of[k][at]
		if pl.of[k] = slices.Delete(pl.of[k], at, at+1); len(pl.of[k]) == 0 {
			delete(pl.of, k)
			pl.keys = slices.Delete(pl.keys, i, i+1)
		}
		return m
	}
	return nil
}

// levels are the cells that take more members, by how many they have.
type levels [2 * Replicas][]*cell

func (l *levels) add(c *cell) {
	if n := len(c.in); n < len(l) {
		c.pos = len(l[n])
		l[n] = append(l[n], c)
	}
}

func (l *levels) remove(c *cell) {
	s := l[len(c.in)]
	last := s[len(s)-1]
	s[c.pos], last.pos = last, c.pos
	l[len(c.in)] = s[:len(s)-1]
}

// grow gives those without a place one where they are needed most: one super-node of each customer, then the second, and so on.
func (p *planner) grow() {
	var l levels
	for _, c := range p.cells {
		l.add(c)
	}
	full := make(map[group]bool) // every cell that takes members has one of these
	for again := true; again; {
		again = false
		waiting := turns(p.reserve, p.r)
		p.reserve = nil
		for _, m := range waiting {
			var c *cell
			if !m.c.Paused {
				c = p.spot(m, &l, full)
			}
			if c == nil {
				p.reserve = append(p.reserve, m)
				continue
			}
			l.remove(c)
			p.change(m, None(), c.Range)
			l.add(c)
			again = true
		}
	}
	p.twins()
}

// turns orders ms by chance, but each customer's first before any customer's second.
func turns(ms []*node, r Random) []*node {
	ms = slices.Clone(ms)
	slices.SortFunc(ms, func(a, b *node) int { return a.c.ID.Compare(b.c.ID) })
	shuffle(r, ms)
	rank, turn := make(map[group]int), make(map[*node]int, len(ms))
	for _, m := range ms {
		if k := m.customer(); k != 0 {
			turn[m] = rank[k]
			rank[k]++
		}
	}
	slices.SortStableFunc(ms, func(a, b *node) int { return cmp.Compare(turn[a], turn[b]) })
	return ms
}

// capped reports whether a customer has as many super-nodes on the map as one may have: a third of all. That is what the
// ranges' own limit adds up to where each of them has R; it bites where they have fewer.
func (p *planner) capped(customer group, more int) bool {
	return customer != 0 && p.customers[customer]+1 > most(p.placed+more)
}

// spot is where m is placed: with the keys of its own domain if nobody else there is at home, or in one of the cells with the
// fewest members. Of two such, drawn by chance, it is the one with more load on each member, or less if m has a cap.
func (p *planner) spot(m *node, l *levels, full map[group]bool) *cell {
	if p.capped(m.customer(), 1) || slices.ContainsFunc(m.groups, func(g group) bool { return full[g] }) {
		return nil
	}
	if k := m.customer(); k != 0 {
		var own *cell
		for _, c := range p.over(domainRange(m.c.ID.Domain())) {
			if len(c.in) < len(l) && c.clash(m) == 0 && !c.hasLocal() && (own == nil || len(c.in) < len(own.in)) {
				own = c
			}
		}
		if own != nil {
			return own
		}
	}
	common := ^uint64(0)
	for _, cs := range l {
		var first *cell
		for i := range cs {
			j := i + p.r.IntN(len(cs)-i)
			cs[i], cs[j] = cs[j], cs[i]
			cs[i].pos, cs[j].pos = i, j
			c := cs[i]
			if bits := c.clash(m); bits != 0 {
				common &= bits
				continue
			}
			if first == nil {
				first = c
				continue
			}
			if heavier := p.load.in(c.Range) > p.load.in(first.Range); heavier == (m.c.Capacity == 0) {
				return c
			}
			return first
		}
		if first != nil {
			return first
		}
	}
	for i, g := range m.groups {
		if common&(1<<i) != 0 {
			full[g] = true
		}
	}
	return nil
}

func (c *cell) hasLocal() bool {
	at := func(m *node) bool { return m.local(c.Range) }
	return slices.ContainsFunc(c.in, at) || slices.ContainsFunc(c.out, at)
}

// twins lets cells grow of which every customer has a member already: second ones join, of several at a time, so that there
// are 2R, a third of them of any one, and the cell can be split into two with one of each. Until then readers find the first alone.
func (p *planner) twins() {
	if len(p.reserve) == 0 {
		return
	}
	pl := newPool(p.reserve, p.r)
	for _, c := range p.cells {
		lack := 2*Replicas - len(c.in)
		if lack <= 0 || c.From == c.To || len(c.goal()) != len(c.in) || !c.orderly() || p.short(c) || len(pl.keys) < lack && pl.of[0] == nil {
			continue
		}
		in := slices.Clone(c.in)
		var ms []*node
		for range lack {
			fits := func(g group) bool {
				n := 0
				for _, o := range in {
					if slices.Contains(o.groups, g) {
						n++
					}
				}
				return n < 2 && !slices.ContainsFunc(c.out, func(o *node) bool { return slices.Contains(o.groups, g) })
			}
			m := pl.take(func(k group) bool { return fits(k) && !p.capped(k, lack) }, func(m *node) bool {
				if slices.ContainsFunc(m.groups, func(g group) bool { return !fits(g) }) {
					return false
				}
				_, left := parts(append(in, m))
				return len(left) == 0
			})
			if m == nil {
				break
			}
			in, ms = append(in, m), append(ms, m)
		}
		if len(ms) == lack && divisible(in) {
			for _, m := range ms {
				p.admit(m, c)
			}
			continue
		}
		pl.put(ms)
	}
}

func (pl *pool) put(ms []*node) {
	for _, m := range ms {
		k := m.customer()
		if pl.of[k] == nil {
			pl.keys = append(pl.keys, k)
		}
		pl.of[k] = append(pl.of[k], m)
	}
}

// divisible reports whether ms are enough for two cells.
func divisible(ms []*node) bool {
	ps, left := parts(ms)
	h := halve(ps, func(*node) int { return -1 }, first{})
	return len(left) == 0 && min(len(h[0]), len(h[1])) >= Replicas
}

// first is no chance at all.
type first struct{}

func (first) IntN(int) int { return 0 }
