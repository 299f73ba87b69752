package partition

import "slices"

// need is how many others have to serve what somebody gives up whom another range waits for. One below R: where the operator
// can be placed it comes to help.
func (p *planner) need() int {
	if p.operator {
		return Replicas - 1
	}
	return 1
}

// complete has those serve their Fill who have been proven to hold it.
func (p *planner) complete() {
	for _, m := range p.nodes {
		if m.filled && p.spare(m, m.fill, p.need(), false) && !p.crowds(m) {
			p.change(m, m.fill, None())
		}
	}
}

// crowds reports whether m should wait, because readers would find more of one group than there may be: until a split puts
// them apart, or the other one has gone.
func (p *planner) crowds(m *node) bool {
	c := p.cells[p.at(m.fill.From)]
	for _, s := range c.segs() {
		if m.rng.Contains(s.From) || !m.fill.Contains(s.From) {
			continue
		}
		if m.clashesAny(s.leave) {
			return true
		}
		n := len(s.stay) + len(s.leave)
		if p.held.Contains(s.From) {
			n++
		}
		for _, o := range s.stay {
			if o.clashes(m) && (n >= Replicas || o.target() != c.Range) {
				return true
			}
		}
	}
	return false
}

// ready are those that serve a cell whole, or could at once.
func (p *planner) ready(c *cell) []*node {
	return c.pick(func(m *node) bool {
		if m.filled {
			return m.fill == c.Range && p.spare(m, m.fill, p.need(), false)
		}
		return m.rng == c.Range && !m.fill.Valid()
	})
}

// split halves the load of cells with 2R members as often as it can. Each keeps half of what it has, so nothing moves.
func (p *planner) split() {
	for i := 0; i < len(p.cells); i++ {
		for p.splitOne(i) {
		}
	}
}

func (p *planner) splitOne(i int) bool {
	c := p.cells[i]
	if len(c.in) < 2*Replicas || c.From == c.To {
		return false
	}
	ready := p.ready(c)
	if len(ready) < 2*Replicas {
		return false
	}
	b := p.load.cut(c.Range)
	halves := [2]*cell{{Range: Range{c.From, b}}, {Range: Range{b + 1, c.To}}}
	ps, _ := parts(ready)
	near := func(m *node) int {
		l, r := m.local(halves[0].Range), m.local(halves[1].Range)
		switch {
		case l && !r:
			return 0
		case r && !l:
			return 1
		}
		return -1
	}
	h := halve(ps, near, p.r)
	for range manyHalvings {
		if seasoned(h[0], halves[0]) && seasoned(h[1], halves[1]) {
			break
		}
		h = halve(ps, near, p.r)
	}
	if min(len(h[0]), len(h[1])) < Replicas || !seasoned(h[0], halves[0]) || !seasoned(h[1], halves[1]) {
		return false
	}
	side := make(map[*node]*cell, len(ready))
	order := make([]*node, 0, len(c.in)+len(c.out))
	for k, half := range halves {
		for _, m := range h[k] {
			side[m] = half
			order = append(order, m)
		}
	}
	for _, m := range c.in {
		if side[m] == nil {
			order = append(order, m)
		}
	}
	out := slices.Clone(c.out)
	order = append(order, out...)
	p.replace(i, 1, halves[:], order, func(m *node) (Range, Range) {
		switch {
		case side[m] != nil:
			return side[m].Range, None()
		case slices.Contains(out, m):
			return p.trim(m, c, halves), m.fill
		}
		return p.follow(m, c, halves)
	})
	return true
}

// manyHalvings is how often chance is asked for two halves that readers find served. One in ten of those of three old and three new
// members is not.
const manyHalvings = 40

// seasoned reports whether one of ms has served c for a while: who has just begun to may be silent for some seconds, until it has
// the last of what the former members took.
func seasoned(ms []*node, c *cell) bool {
	return slices.ContainsFunc(ms, func(m *node) bool { return m.served.holds(c.Range) })
}

// trim is what one on its way out of c goes on serving: of one half, since either has enough without it.
func (p *planner) trim(m *node, c *cell, halves [2]*cell) Range {
	if !c.holds(m.rng) {
		return m.rng
	}
	k := p.r.IntN(2)
	if both, ok := m.rng.Intersect(halves[k].Range); ok {
		return both
	}
	return m.rng
}

// follow finds a half for one that does not serve c whole.
func (p *planner) follow(m *node, c *cell, halves [2]*cell) (rng, fill Range) {
	var to *cell
	inside := c.holds(m.rng)
	for _, half := range halves {
		if half.clash(m) != 0 {
			continue
		}
		_, has := m.rng.Intersect(half.Range)
		switch {
		case to == nil:
			to = half
		case inside && has:
			if _, other := m.rng.Intersect(to.Range); !other || half.holds(m.rng) {
				to = half
			}
		case !inside && len(half.in) < len(to.in):
			to = half
		}
	}
	if to == nil {
		if inside {
			return None(), None()
		}
		return m.rng, None()
	}
	if !inside {
		return m.rng, to.Range
	}
	if m.rng.holds(to.Range) {
		return to.Range, None()
	}
	both, _ := m.rng.Intersect(to.Range)
	if m.c.Paused {
		return tidy(both), None()
	}
	return tidy(both), to.Range
}

// replace puts other cells for n at i, and gives ms, who are all that have to do with them, other ranges, one after the other.
func (p *planner) replace(i, n int, with []*cell, ms []*node, set func(*node) (rng, fill Range)) {
	for _, m := range ms {
		p.detach(m)
		p.count(m, -1)
	}
	p.cells = slices.Replace(p.cells, i, i+n, with...)
	p.changed = true
	for _, m := range ms {
		rng, fill := set(m)
		if fill != m.fill {
			m.filled = false
		}
		m.rng, m.fill = rng, fill
		if !m.target().Valid() {
			p.reserve = append(p.reserve, m)
			continue
		}
		p.attach(m)
		p.count(m, 1)
	}
}
