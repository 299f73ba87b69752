package partition

import (
	"cmp"
	"slices"
)

// short reports whether too few that have nothing in common are to serve c.
func (p *planner) short(c *cell) bool { return p.lacks(c) > 0 }

func (p *planner) lacks(c *cell) int { return Replicas - len(apart(c.goal())) }

// refill gives cells that are short new members, with the least data moved: those on their way out, who hold it all; those
// without a place; those of cells that have more than R. Where all that is not enough the cell goes together with a neighbour.
func (p *planner) refill() {
	queue := slices.DeleteFunc(slices.Clone(p.cells), func(c *cell) bool { return !p.short(c) })
	if len(queue) == 0 {
		return
	}
	shuffle(p.r, queue)
	slices.SortStableFunc(queue, func(a, b *cell) int { return cmp.Compare(len(a.in), len(b.in)) })
	pool := newPool(p.reserve, p.r)
	rich := slices.DeleteFunc(slices.Clone(p.cells), func(c *cell) bool { return p.lacks(c) >= 0 })
	shuffle(p.r, rich)
	slices.SortStableFunc(rich, func(a, b *cell) int { return cmp.Compare(len(b.in), len(a.in)) })
	for ; len(queue) > 0; queue = queue[1:] {
		c := queue[0]
		if p.cells[p.at(c.From)] != c { // merged meanwhile
			continue
		}
		p.recall(c)
		for p.short(c) {
			m := pool.take(c.lacksGroup, func(m *node) bool { return c.clash(m) == 0 })
			if m == nil {
				break
			}
			p.admit(m, c)
		}
		k := p.lacks(c)
		if k <= 0 {
			continue
		}
		if ms := p.donors(c, k, rich); len(ms) == k {
			for _, m := range ms {
				p.change(m, m.rng, c.Range)
			}
		} else if len(p.cells) > 1 {
			queue = append(queue, p.merge(c))
		} else {
			p.exceed(c, pool)
		}
	}
}

// admit gives one out of the reserve a place.
func (p *planner) admit(m *node, c *cell) {
	p.reserve = slices.DeleteFunc(p.reserve, func(o *node) bool { return o == m })
	p.change(m, None(), c.Range)
}

// recall stops those that are leaving c, as far as it lacks members and their new cells have others.
func (p *planner) recall(c *cell) {
	for _, m := range slices.Clone(c.out) {
		if !p.short(c) {
			return
		}
		to := p.cells[p.at(m.target().From)]
		if m.rng == c.Range && m.fill.Valid() && c.clash(m) == 0 && p.dispensable(m, to) {
			p.change(m, m.rng, None())
		}
	}
}

// dispensable reports whether R are to serve c without m.
func (p *planner) dispensable(m *node, c *cell) bool {
	return len(apart(slices.DeleteFunc(slices.Clone(c.goal()), func(o *node) bool { return o == m }))) >= Replicas
}

// donors finds k members of cells that have more than R, one of each, who may serve c.
func (p *planner) donors(c *cell, k int, rich []*cell) (ms []*node) {
	for _, serving := range []bool{true, false} { // those that have shown that they fill what they are given first
		for _, from := range rich {
			if len(ms) == k {
				return ms
			}
			if from == c || p.cells[p.at(from.From)] != from || p.lacks(from) >= 0 || slices.ContainsFunc(ms, func(m *node) bool { return slices.Contains(from.in, m) }) {
				continue
			}
			var best *node
			members := slices.Clone(from.in)
			shuffle(p.r, members)
			for _, m := range members {
				if m.c.Paused || c.clash(m) != 0 || from.clash(m) != 0 || m.clashesAny(ms) || !p.dispensable(m, from) {
					continue
				}
				if serving && (m.rng != from.Range || m.fill.Valid() || !p.spare(m, None(), Replicas, false)) || !serving && m.rng.Valid() {
					continue
				}
				if best == nil || best.local(from.Range) { // one that is not at home there goes first
					best = m
				}
			}
			if best != nil {
				ms = append(ms, best)
			}
		}
	}
	return ms
}

// merge unites c with the neighbour with which the least data moves. Of two that share a group both go on serving what they
// have, without filling the rest, until others serve that; then one can go.
func (p *planner) merge(c *cell) *cell {
	i := p.at(c.From)
	cost := func(n *cell) float64 {
		return float64(len(c.in))*float64(p.load.in(n.Range)) + float64(len(n.in))*float64(p.load.in(c.Range))
	}
	if i > 0 && (i+1 == len(p.cells) || cmp.Or(cmp.Compare(cost(p.cells[i-1]), cost(p.cells[i+1])), cmp.Compare(len(p.cells[i-1].in), len(p.cells[i+1].in))) < 0) {
		i--
	}
	a, b := p.cells[i], p.cells[i+1]
	t := &cell{Range: Range{a.From, b.To}}
	in := slices.Concat(a.in, b.in)
	if len(a.in) < len(b.in) { // the larger first: who serves the other one is held back where they clash
		in = slices.Concat(b.in, a.in)
	}
	out := slices.DeleteFunc(slices.Concat(a.out, b.out), func(m *node) bool { return slices.Contains(in, m) })
	fill := p.fillers(in, out)
	ms := slices.Clone(in)
	for _, m := range out {
		if !slices.Contains(ms, m) { // it may serve of both
			ms = append(ms, m)
		}
	}
	p.replace(i, 2, []*cell{t}, ms, func(m *node) (Range, Range) {
		switch {
		case !slices.Contains(in, m):
			return m.rng, m.fill
		case slices.Contains(fill, m):
			return m.rng, t.Range
		}
		return m.rng, None()
	})
	return t
}

// fillers are those of in, all members of two cells that become one, that are to serve the whole. out are leaving.
func (p *planner) fillers(in, out []*node) []*node {
	in = fit(in)
	fill := slices.DeleteFunc(slices.Clone(in), func(m *node) bool { return m.clashesAny(in) || m.clashesAny(out) })
	for _, m := range in {
		if len(fill) < Replicas && !slices.Contains(fill, m) && !m.clashesAny(fill) {
			fill = append(fill, m)
		}
	}
	if len(p.cells) == 2 {
		for _, m := range in {
			if p.enough(len(fill)) {
				break
			}
			if !slices.Contains(fill, m) {
				fill = append(fill, m)
			}
		}
	}
	return fill
}

// enough reports whether n members are R in all, with the operator as one of them where it has to be.
func (p *planner) enough(n int) bool {
	if p.operator {
		n++
	}
	return n >= Replicas
}

// exceed fills the only cell up to R in all with those that share a group: there are not enough others to choose from.
func (p *planner) exceed(c *cell, pool *pool) {
	for _, any := range []bool{false, true} {
		for !p.enough(len(c.goal())) {
			m := pool.take(func(k group) bool { return any || c.lacksGroup(k) }, func(*node) bool { return true })
			if m == nil {
				break
			}
			p.admit(m, c)
		}
	}
}
