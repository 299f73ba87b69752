package partition

import (
	"slices"

	"culvert/protocol"
)

// planner holds one plan in the making.
type planner struct {
	r         Random
	load      *loads
	nodes     []*node // all super-nodes, in order of ID
	cells     []*cell // in order
	reserve   []*node // those without a place
	customers map[group]int
	placed    int
	changed   bool

	operator bool  // it can be placed
	held     Range // what the operator serves now, or has been proven to hold
	now      Placement
	proven   bool
}

// Next is the map that is to follow s.Present, in order of ID; the same where nothing is to change.
func Next(s State, r Random) []Placement {
	p := newPlanner(s, r)
	for range maxRounds {
		p.changed = false
		p.complete()
		p.split()
		p.refill()
		p.grow()
		p.repair()
		if !p.operator {
			p.cover()
		}
		if !p.changed {
			break
		}
	}
	return p.placements(s.Operator)
}

// maxRounds is a stop, far above what is seen: each round places at least twice as many as the one before.
const maxRounds = 64

func newPlanner(s State, r Random) *planner {
	p := &planner{
		r: r, load: newLoads(s.Load), customers: make(map[group]int),
		operator: len(s.Operator.Addresses) > 0, held: None(), now: Placement{Range: None(), Fill: None()},
	}
	present := make(map[protocol.ID]Placement, len(s.Present))
	for _, x := range s.Present {
		present[x.ID] = x
	}
	for _, c := range s.Supers {
		if c.ID == s.Operator.ID || len(c.Addresses) == 0 {
			continue
		}
		m := &node{c: c, rng: None(), fill: None(), served: None(), groups: groupsOf(c)}
		if x, ok := present[c.ID]; ok {
			m.rng, m.fill, m.served = tidy(x.Range), tidy(x.Fill), tidy(x.Range)
			if r, ok := s.Served[c.ID]; ok {
				m.served = tidy(r)
			}
			m.filled = m.fill.Valid() && (s.Filled[c.ID] || m.rng.holds(m.fill))
			if c.Paused && !m.rng.holds(m.fill) {
				m.fill, m.filled = None(), false
			}
		}
		p.nodes = append(p.nodes, m)
	}
	slices.SortStableFunc(p.nodes, func(a, b *node) int { return a.c.ID.Compare(b.c.ID) })
	p.nodes = slices.CompactFunc(p.nodes, func(a, b *node) bool { return a.c.ID == b.c.ID })
	if x, ok := present[s.Operator.ID]; ok && p.operator {
		p.now.Range, p.now.Fill = tidy(x.Range), tidy(x.Fill)
		p.proven = p.now.Fill.Valid() && s.Filled[s.Operator.ID]
		p.held = p.now.Range
		if p.proven {
			p.held = p.now.Fill
		}
	}
	p.lay()
	return p
}

func tidy(r Range) Range {
	if !r.Valid() {
		return None()
	}
	return r
}

// lay finds the cells: the targets of the members, those that overlap taken together, and the gaps between them.
func (p *planner) lay() {
	var targets []Range
	for _, m := range p.nodes {
		if t := m.target(); t.Valid() {
			targets = append(targets, t)
		}
	}
	slices.SortFunc(targets, func(a, b Range) int {
		if a.From != b.From {
			if a.From < b.From {
				return -1
			}
			return 1
		}
		return 0
	})
	next, done := uint64(0), false // first position that no cell holds yet; done: there is none
	add := func(r Range) {
		p.cells = append(p.cells, &cell{Range: r})
		next, done = r.To+1, r.To == Whole().To
	}
	for i := 0; i < len(targets); {
		t := targets[i]
		for i++; i < len(targets) && targets[i].From <= t.To; i++ {
			t.To = max(t.To, targets[i].To)
		}
		if t.From > next {
			add(Range{next, t.From - 1})
		}
		add(t)
	}
	if !done {
		add(Range{next, Whole().To})
	}
	for _, m := range p.nodes {
		if m.target().Valid() {
			p.attach(m)
			p.count(m, 1)
		} else {
			p.reserve = append(p.reserve, m)
		}
	}
}

func (p *planner) placements(operator Candidate) []Placement {
	var ps []Placement
	for _, m := range p.nodes {
		if m.target().Valid() {
			ps = append(ps, Placement{Candidate: m.c, Range: m.rng, Fill: m.fill})
		}
	}
	if p.operator {
		if rng, fill := p.own(); rng.Valid() || fill.Valid() {
			ps = append(ps, Placement{Candidate: operator, Range: rng, Fill: fill})
			slices.SortFunc(ps, func(a, b Placement) int { return a.ID.Compare(b.ID) })
		}
	}
	return ps
}
