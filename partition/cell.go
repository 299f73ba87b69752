package partition

import (
	"cmp"
	"slices"
)

// node is a super-node while a plan is made.
type node struct {
	c      Candidate
	rng    Range // what it serves
	fill   Range
	filled bool  // its fill has been proven
	served Range // what it has served for a while
	groups []group
}

// target is what it serves, or is to.
func (m *node) target() Range {
	if m.fill.Valid() {
		return m.fill
	}
	return m.rng
}

// newness is 0 for those that serve and stay, 1 for those that serve and fill, 2 for those that only fill.
func (m *node) newness() int {
	switch {
	case !m.rng.Valid():
		return 2
	case m.fill.Valid():
		return 1
	}
	return 0
}

// local reports whether keys of its own domain lie in r.
func (m *node) local(r Range) bool {
	if len(m.groups) == 0 || m.groups[0]>>62 != groupDomain>>62 {
		return false
	}
	_, ok := domainRange(m.c.ID.Domain()).Intersect(r)
	return ok
}

// cell is a range as the next map is to have it. The cells are the key space, without a gap.
type cell struct {
	Range
	in  []*node // whose target it is. After a merge some may have a part of it as target: they stay until others serve that
	out []*node // who serve of it on their way to another cell
	pos int     // where it stands among those of its size, for grow
}

// goal are those of in that are to serve the whole cell.
func (c *cell) goal() []*node { return c.pick(func(m *node) bool { return m.target() == c.Range }) }

func (c *cell) pick(ok func(*node) bool) []*node {
	if !slices.ContainsFunc(c.in, func(m *node) bool { return !ok(m) }) {
		return c.in[:len(c.in):len(c.in)]
	}
	return slices.DeleteFunc(slices.Clone(c.in), func(m *node) bool { return !ok(m) })
}

// clash says which of m's groups, as bits, a member of the cell has already.
func (c *cell) clash(m *node) (bits uint64) {
	for i, g := range m.groups {
		has := func(o *node) bool { return o != m && slices.Contains(o.groups, g) }
		if slices.ContainsFunc(c.in, has) || slices.ContainsFunc(c.out, has) {
			bits |= 1 << i
		}
	}
	return bits
}

// lacksGroup reports whether no member of the cell is of g.
func (c *cell) lacksGroup(g group) bool {
	has := func(o *node) bool { return slices.Contains(o.groups, g) }
	return !slices.ContainsFunc(c.in, has) && !slices.ContainsFunc(c.out, has)
}

// seg is a run of positions in a cell that the same members serve.
type seg struct {
	Range
	stay  []*node // serve it and go on
	leave []*node // serve it on their way to another cell
}

func (c *cell) segs() []seg {
	starts := []uint64{c.From}
	whole := true
	for _, ms := range [][]*node{c.in, c.out} {
		for _, m := range ms {
			both, ok := m.rng.Intersect(c.Range)
			if !ok {
				continue
			}
			if both != c.Range {
				whole = false
			}
			starts = append(starts, both.From)
			if both.To < c.To {
				starts = append(starts, both.To+1)
			}
		}
	}
	if whole {
		starts = starts[:1]
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	out := make([]seg, len(starts))
	for i, from := range starts {
		s := &out[i]
		s.Range = Range{from, c.To}
		if i+1 < len(starts) {
			s.To = starts[i+1] - 1
		}
		for _, m := range c.in {
			if m.rng.Contains(from) {
				s.stay = append(s.stay, m)
			}
		}
		for _, m := range c.out {
			if m.rng.Contains(from) {
				s.leave = append(s.leave, m)
			}
		}
	}
	return out
}

// at is the index of the cell that holds position pos.
func (p *planner) at(pos uint64) int {
	i, _ := slices.BinarySearchFunc(p.cells, pos, func(c *cell, pos uint64) int { return cmp.Compare(c.To, pos) })
	return i
}

// over are the cells that r touches.
func (p *planner) over(r Range) []*cell {
	if !r.Valid() {
		return nil
	}
	return p.cells[p.at(r.From) : p.at(r.To)+1]
}

func (p *planner) attach(m *node) {
	home := p.cells[p.at(m.target().From)]
	home.in = append(home.in, m)
	for _, c := range p.over(m.rng) {
		if c != home {
			c.out = append(c.out, m)
		}
	}
}

func (p *planner) detach(m *node) {
	is := func(o *node) bool { return o == m }
	home := p.cells[p.at(m.target().From)]
	home.in = slices.DeleteFunc(home.in, is)
	for _, c := range p.over(m.rng) {
		c.out = slices.DeleteFunc(c.out, is)
	}
}

// change gives m other ranges. One without any goes back into the reserve.
func (p *planner) change(m *node, rng, fill Range) {
	if m.target().Valid() {
		p.detach(m)
		p.count(m, -1)
	}
	if fill != m.fill {
		m.filled = false
	}
	m.rng, m.fill = rng, fill
	p.changed = true
	if !m.target().Valid() {
		p.reserve = append(p.reserve, m)
		return
	}
	p.attach(m)
	p.count(m, 1)
}

// count keeps the number of super-nodes placed, of each customer and in all.
func (p *planner) count(m *node, d int) {
	p.placed += d
	if len(m.groups) > 0 && m.groups[0]>>62 == groupDomain>>62 {
		p.customers[m.groups[0]] += d
	}
}

// spare reports whether m need not serve what lies outside keep: at every position need others do and go on doing it, no two
// of one group. The operator counts where it serves what it holds, if counted.
func (p *planner) spare(m *node, keep Range, need int, counted bool) bool {
	for _, c := range p.over(m.rng) {
		for _, s := range c.segs() {
			if !m.rng.Contains(s.From) || keep.Contains(s.From) {
				continue
			}
			n := len(apart(slices.DeleteFunc(s.stay, func(o *node) bool { return o == m })))
			if counted && !p.lost() && p.held.Contains(s.From) {
				n++
			}
			if n < need {
				return false
			}
		}
	}
	return true
}
