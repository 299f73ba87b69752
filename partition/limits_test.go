package partition

import (
	"fmt"
	"slices"
	"strings"

	"culvert/protocol"
)

func show(ps []Placement) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "  %s %v fills %v\n", p.ID.Short(), p.Range, p.Fill)
	}
	return b.String()
}

func (w *world) candidateOf(id protocol.ID) Candidate {
	i := slices.IndexFunc(w.present, func(p Placement) bool { return p.ID == id })
	return w.present[i].Candidate
}

// distinct is how many of ids one can name without two of one group. The operator is in none.
func (w *world) distinct(ids []protocol.ID) int {
	var ms []*node
	for _, id := range ids {
		c := w.candidateOf(id)
		ms = append(ms, &node{c: c, rng: Whole(), fill: None(), groups: groupsOf(c)})
	}
	return len(apart(ms))
}

// share is the largest part that one group has of ids: how many.
func (w *world) share(ids []protocol.ID) (n int, of group) {
	count := make(map[group]int)
	for _, id := range ids {
		for _, g := range groupsOf(w.candidateOf(id)) {
			if count[g]++; count[g] > n {
				n, of = count[g], g
			}
		}
	}
	return n, of
}

// checkLimits: nobody has more than a third of a range's members, whether all or only those that serve are counted, unless
// fewer than R who serve have nothing in common, somewhere in what its members serve: then there are not enough others, or
// they are not so far.
func (w *world) checkLimits() {
	shares := Ranges(w.present)
	distinct := make([]int, len(shares))
	for i, s := range shares {
		distinct[i] = w.distinct(s.Serving)
	}
	for i, s := range shares {
		all := slices.Concat(s.Serving, s.Filling)
		for _, ids := range [][]protocol.ID{all, s.Serving} {
			n, g := w.share(ids)
			if n <= max(1, len(ids)/3) {
				continue
			}
			few := false
			for j, o := range shares {
				for _, id := range all {
					few = few || distinct[j] < Replicas && slices.Contains(groupsOf(w.candidateOf(id)), g) &&
						(slices.Contains(o.Serving, id) || !w.serves(id) && slices.Contains(o.Filling, id))
				}
			}
			if !few {
				w.t.Fatalf("%x has %d of %d in %v, where %d others serve:\n%s", g, n, len(ids), s.Range, distinct[i], show(w.present))
			}
			w.exceeded++
		}
	}
}

// checkMembers: who is there is used, and the operator is where others are too few.
func (w *world) checkMembers() {
	targets := make(map[Range][]protocol.ID)
	for _, p := range w.present {
		if p.ID == w.op.ID {
			continue
		}
		t := p.Range
		if p.Fill.Valid() {
			t = p.Fill
		}
		targets[t] = append(targets[t], p.ID)
	}
	placed := func(c Candidate) bool {
		return slices.ContainsFunc(w.present, func(p Placement) bool { return p.ID == c.ID })
	}
	for t, ids := range targets {
		whole := slices.Collect(func(yield func(protocol.ID) bool) {
			for o, os := range targets {
				if overlaps(o, t) {
					for _, id := range os {
						if !yield(id) {
							return
						}
					}
				}
			}
		})
		if n := w.distinct(whole); n < Replicas {
			if t != Whole() {
				inside := false // held back at a merge: the whole that it belongs to counts
				for o := range targets {
					inside = inside || o != t && o.holds(t)
				}
				if !inside && !w.paused(ids) {
					w.t.Fatalf("%v is to have %d members only:\n%s", t, n, show(w.present))
				}
			}
			for _, c := range w.supers {
				if !placed(c) && !c.Paused && w.distinctWith(whole, c) > n {
					w.t.Fatalf("%s waits while %v has %d members:\n%s", c.ID.Short(), t, n, show(w.present))
				}
			}
		}
	}
	if len(w.op.Addresses) == 0 || len(targets) > operatorSpan {
		return
	}
	for _, s := range Ranges(w.present) {
		keeps := slices.Contains(s.Serving, w.op.ID) || slices.Contains(s.Filling, w.op.ID)
		if others := w.distinct(w.staying(s)); others < Replicas && !keeps {
			w.t.Fatalf("%v has %d and no operator:\n%s", s.Range, others, show(w.present))
		}
	}
}

// paused reports whether all of ids, who may be given nothing more, are: nobody is to fill their range with them then.
func (w *world) paused(ids []protocol.ID) bool {
	return !slices.ContainsFunc(ids, func(id protocol.ID) bool { return !w.candidateOf(id).Paused })
}

// staying are those who serve s and go on doing it, without the operator.
func (w *world) staying(s Share) (ids []protocol.ID) {
	for _, id := range s.Serving {
		i := slices.IndexFunc(w.present, func(p Placement) bool { return p.ID == id })
		p := w.present[i]
		if id != w.op.ID && (!p.Fill.Valid() || overlaps(p.Fill, s.Range)) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *world) distinctWith(ids []protocol.ID, c Candidate) int {
	var ms []*node
	for _, id := range ids {
		o := w.candidateOf(id)
		ms = append(ms, &node{c: o, rng: Whole(), fill: None(), groups: groupsOf(o)})
	}
	return len(apart(append(ms, &node{c: c, rng: None(), fill: None(), groups: groupsOf(c)})))
}

func (w *world) placed(id protocol.ID) bool {
	return slices.ContainsFunc(w.present, func(p Placement) bool { return p.ID == id })
}

// serves reports whether id serves anything yet.
func (w *world) serves(id protocol.ID) bool {
	return slices.ContainsFunc(w.present, func(p Placement) bool { return p.ID == id && p.Range.Valid() })
}
