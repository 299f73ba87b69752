package partition

import (
	"cmp"
	"slices"
)

// repair ends what the limits do not allow, as far as others do the work: a cell lost members, or went together with another.
func (p *planner) repair() {
	for _, c := range p.cells {
		for p.repairOne(c) {
		}
	}
}

func (p *planner) repairOne(c *cell) bool {
	all := slices.Concat(c.in, c.out)
	for _, m := range c.in { // held back at a merge, and nobody in the way or nobody in need of it any more
		switch {
		case m.target() == c.Range:
		case !m.c.Paused && !m.clashesAny(all):
			p.change(m, m.rng, c.Range)
			return true
		case m.c.Paused && p.spare(m, None(), Replicas, false):
			p.change(m, None(), None())
			return true
		}
	}
	for _, m := range c.out { // not needed here any more, and in another's way
		if m.clashesAny(c.in) && p.spare(m, m.fill, Replicas, true) {
			p.change(m, None(), m.fill)
			return true
		}
	}
	clashing := slices.DeleteFunc(slices.Clone(c.in), func(m *node) bool { return !m.clashesAny(all) })
	if len(clashing) == 0 || p.awaitsSplit(c) {
		return false
	}
	slices.SortFunc(clashing, func(a, b *node) int {
		ah, bh := a.target() == c.Range, b.target() == c.Range
		if ah != bh { // those held back go first
			if bh {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.newness(), a.newness()), b.c.ID.Compare(a.c.ID))
	})
	keep := apart(c.goal())
	for _, m := range clashing {
		if slices.Contains(keep, m) {
			continue
		}
		goal := len(c.goal())
		if m.target() == c.Range {
			goal--
		}
		if !p.enough(goal) {
			continue
		}
		switch away := m.rng.Valid() && !overlaps(m.rng, c.Range); {
		case away: // it stays where it is
			p.change(m, m.rng, None())
		case !m.rng.Valid() || p.spare(m, None(), p.dropNeed(m, c), true):
			p.change(m, None(), None())
		default:
			continue
		}
		return true
	}
	return false
}

// awaitsSplit reports whether c is to be split as soon as its members are filled, which parts those that clash.
func (p *planner) awaitsSplit(c *cell) bool {
	return len(c.in) == 2*Replicas && len(c.goal()) == len(c.in) && c.orderly() && divisible(c.in) &&
		!slices.ContainsFunc(c.in, func(m *node) bool { return m.clashesAny(c.out) })
}

// orderly reports whether no two of those that serve share a group.
func (c *cell) orderly() bool {
	serve := c.pick(func(m *node) bool { return overlaps(m.rng, c.Range) })
	return !slices.ContainsFunc(serve, func(m *node) bool { return m.clashesAny(serve) })
}

// dropNeed is how many have to serve what m gives up. Who is held back goes sooner: it stands in the way of others that hold it all.
func (p *planner) dropNeed(m *node, c *cell) int {
	if m.target() != c.Range {
		return p.need()
	}
	return Replicas
}

func overlaps(a, b Range) bool {
	_, ok := a.Intersect(b)
	return ok
}
