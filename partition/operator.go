package partition

import (
	"cmp"
	"slices"
)

// operatorSpan is over how many cells the operator reaches out of its own accord. A mesh of thousands of ranges always has
// some whose third member is being replaced, far apart; the operator, whose range is contiguous, cannot carry all between.
const operatorSpan = 4

// own is what the operator serves and fills: the hull of the cells that nobody serves, wherever they are, and of those that
// fewer than R serve and go on serving, no two of a group, as far as it reaches. What nobody else serves it serves at once:
// it has the static records, and nobody has more. Anything else it fills first, and it leaves as soon as it can.
func (p *planner) own() (rng, fill Range) {
	type want struct {
		Range
		n    int
		near bool
	}
	var wants []want
	must, honest := None(), true // honest: in must nobody else holds what the operator does not
	held := p.held
	lost := p.lost()
	before := hull(p.now.Range, p.now.Fill)
	for _, c := range p.cells {
		for _, s := range c.segs() {
			n := len(apart(s.stay))
			switch {
			case len(s.stay)+len(s.leave) == 0:
				must = hull(must, s.Range)
			case n < Replicas && (!lost || overlaps(s.Range, before)):
				wants = append(wants, want{s.Range, n, overlaps(s.Range, before)})
			}
		}
	}
	target := must
	slices.SortStableFunc(wants, func(a, b want) int {
		if a.near != b.near {
			if a.near {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.n, b.n)
	})
	for _, w := range wants {
		if h := hull(target, w.Range); h == target || len(p.over(h)) <= operatorSpan {
			target = h
		}
	}
	if !target.Valid() {
		return None(), None()
	}
	live := false
	for _, c := range p.over(target) {
		for _, s := range c.segs() {
			if len(s.stay)+len(s.leave) > 0 && target.Contains(s.From) {
				live = true
				honest = honest && (!must.Contains(s.From) || held.holds(s.Range))
			}
		}
	}
	held, _ = held.Intersect(target)
	held = tidy(held)
	if lost {
		honest = !live
	}
	switch {
	case held == target && honest, !live:
		return target, None()
	case !honest: // several ranges died at once: it serves all between them, with what it has, until it has the rest
		return target, target
	case !must.Valid() || held.holds(must):
		return held, target
	}
	rng = must
	if both := hull(must, held); p.known(both, held) {
		rng = both
	}
	if rng == target {
		return rng, None()
	}
	return rng, target
}

// lost reports whether the operator serves what it had no time to fill, because several ranges died at once.
func (p *planner) lost() bool { return p.now.Range == p.now.Fill && p.now.Fill.Valid() && !p.proven }

// known reports whether at every position of r the operator holds what there is, or nobody does.
func (p *planner) known(r, held Range) bool {
	for _, c := range p.over(r) {
		for _, s := range c.segs() {
			if r.Contains(s.From) && len(s.stay)+len(s.leave) > 0 && !held.Contains(s.From) {
				return false
			}
		}
	}
	return true
}

func hull(a, b Range) Range {
	switch {
	case !a.Valid():
		return tidy(b)
	case !b.Valid():
		return a
	}
	return Range{min(a.From, b.From), max(a.To, b.To)}
}

// cover has somebody serve what nobody serves, where there is no operator to do it: those next to it, or who was to fill it.
// Nobody holds more of it than they do.
func (p *planner) cover() {
	for i := 0; i < len(p.cells); {
		c := p.cells[i]
		j := slices.IndexFunc(c.segs(), func(s seg) bool { return len(s.stay)+len(s.leave) == 0 })
		if j < 0 {
			i++
			continue
		}
		gap := c.segs()[j].Range
		beside := func(m *node) bool {
			return c.holds(m.rng) && (m.rng.To+1 == gap.From && gap.From > 0 || gap.To+1 == m.rng.From && m.rng.From > 0)
		}
		who := c.pick(beside)
		if len(who) == 0 {
			who = c.pick(func(m *node) bool { return !m.rng.Valid() })
		}
		switch {
		case len(who) > 0:
			for _, m := range slices.Clone(who) {
				rng, fill := hull(m.rng, gap), m.fill
				if rng == fill {
					fill = None()
				}
				p.change(m, rng, fill)
			}
		case len(p.cells) > 1:
			p.merge(c)
			i = 0
		default:
			return
		}
	}
}
