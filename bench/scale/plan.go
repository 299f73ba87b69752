package main

import (
	"cmp"
	"math"
	"slices"

	"culvert/partition"
	"culvert/protocol"
)

// plan is the map that the operator would sign next: every volunteer that is on, placed.
type plan struct {
	p      *population
	ranges []*span // in order of position, without gaps
	of     map[protocol.ID]*span
}

type span struct {
	partition.Range
	load    float64
	members []protocol.ID
}

func newPlan(p *population) *plan {
	return &plan{p: p, ranges: []*span{{Range: partition.Whole(), load: float64(p.nodes)}}, of: make(map[protocol.ID]*span)}
}

// step takes in who left and who came.
func (l *plan) step(left, came []protocol.ID) {
	for _, id := range left {
		if s := l.of[id]; s != nil {
			delete(l.of, id)
			s.members = slices.DeleteFunc(s.members, func(m protocol.ID) bool { return m == id })
		}
	}
	for _, id := range came {
		s := slices.MaxFunc(l.ranges, func(a, b *span) int { return cmp.Compare(a.need(), b.need()) })
		s.members = append(s.members, id)
		l.of[id] = s
		if len(s.members) >= 2*partition.Replicas {
			l.split(s)
		}
	}
	for i := 0; i < len(l.ranges); i++ {
		if s := l.ranges[i]; len(s.members) < partition.Replicas && len(l.ranges) > 1 {
			i = l.refill(i)
		}
	}
}

// need orders the ranges: those without R members first, then by load a member.
func (s *span) need() float64 {
	if len(s.members) < partition.Replicas {
		return math.Inf(1)
	}
	return s.load / float64(len(s.members))
}

func (l *plan) split(s *span) {
	lo, hi := s.From, s.To
	for range 64 { // the position that halves the load
		mid := lo + (hi-lo)/2
		if l.p.within(s.From, mid) < s.load/2 {
			lo = mid
		} else {
			hi = mid
		}
	}
	if hi >= s.To {
		return
	}
	upper := &span{Range: partition.Range{From: hi + 1, To: s.To}, members: slices.Clone(s.members[partition.Replicas:])}
	s.To, s.members = hi, s.members[:partition.Replicas]
	s.load, upper.load = l.p.within(s.From, s.To), l.p.within(upper.From, upper.To)
	for _, id := range upper.members {
		l.of[id] = upper
	}
	i := slices.Index(l.ranges, s)
	l.ranges = slices.Insert(l.ranges, i+1, upper)
}

// refill takes a member from the best served range, or merges with the lighter neighbour where none can spare one.
func (l *plan) refill(i int) int {
	s := l.ranges[i]
	rich := slices.MinFunc(l.ranges, func(a, b *span) int { return cmp.Compare(a.spare(), b.spare()) })
	if len(rich.members) > partition.Replicas {
		id := rich.members[len(rich.members)-1]
		rich.members = rich.members[:len(rich.members)-1]
		s.members = append(s.members, id)
		l.of[id] = s
		return i - 1
	}
	j := i + 1
	if j == len(l.ranges) || i > 0 && l.ranges[i-1].load < l.ranges[j].load {
		i, j = i-1, i
	}
	a, b := l.ranges[i], l.ranges[j]
	a.To, a.load, a.members = b.To, a.load+b.load, append(a.members, b.members...)
	for _, id := range b.members {
		l.of[id] = a
	}
	l.ranges = slices.Delete(l.ranges, j, j+1)
	if len(a.members) >= 2*partition.Replicas {
		l.split(a)
	}
	return i - 1
}

func (s *span) spare() float64 {
	if len(s.members) <= partition.Replicas {
		return math.Inf(1)
	}
	return s.load / float64(len(s.members))
}

// serving is a copy of who serves what.
func (l *plan) serving() map[protocol.ID]partition.Range {
	m := make(map[protocol.ID]partition.Range, len(l.of))
	for id, s := range l.of {
		m[id] = s.Range
	}
	return m
}
