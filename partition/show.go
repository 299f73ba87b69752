package partition

import (
	"cmp"
	"slices"

	"culvert/protocol"
)

// Share is a run of positions with the same members.
type Share struct {
	Range   Range
	Serving []protocol.ID // in order
	Filling []protocol.ID // those who are to serve it and do not yet, in order
}

// Ranges cuts the key space at every position where its members change.
func Ranges(ps []Placement) []Share {
	ps = slices.Clone(ps)
	slices.SortFunc(ps, func(a, b Placement) int { return a.ID.Compare(b.ID) })
	var starts []uint64
	for _, p := range ps {
		for _, r := range []Range{p.Range, p.Fill} {
			if !r.Valid() {
				continue
			}
			starts = append(starts, r.From)
			if r.To != Whole().To {
				starts = append(starts, r.To+1)
			}
		}
	}
	starts = append(starts, 0)
	slices.Sort(starts)
	starts = slices.Compact(starts)
	out := make([]Share, len(starts))
	for i, from := range starts {
		out[i].Range = Range{from, Whole().To}
		if i+1 < len(starts) {
			out[i].Range.To = starts[i+1] - 1
		}
	}
	// each member touches the runs of its own ranges alone, so that many ranges of few members stay cheap
	each := func(r Range, fn func(*Share)) {
		if !r.Valid() {
			return
		}
		i, _ := slices.BinarySearchFunc(out, r.From, func(s Share, p uint64) int { return cmp.Compare(s.Range.From, p) })
		for ; i < len(out) && out[i].Range.From <= r.To; i++ {
			fn(&out[i])
		}
	}
	for _, p := range ps {
		each(p.Range, func(s *Share) { s.Serving = append(s.Serving, p.ID) })
		each(p.Fill, func(s *Share) {
			if !p.Range.Contains(s.Range.From) {
				s.Filling = append(s.Filling, p.ID)
			}
		})
	}
	return out
}

// MoveKind says why a member fills a range.
type MoveKind string

const (
	MoveClone MoveKind = "clone" // a newcomer takes a copy
	MoveMerge MoveKind = "merge" // it goes on with what it has, and more
	MoveAway  MoveKind = "move"  // it gives up what it has for another range
)

// Move is one hand-over under way.
type Move struct {
	ID   protocol.ID
	Kind MoveKind
	From Range // what it serves meanwhile; None for a newcomer
	To   Range // what it fills
}

// Moving lists the hand-overs under way, in order of ID.
func Moving(ps []Placement) []Move {
	var out []Move
	for _, p := range ps {
		if !p.Fill.Valid() {
			continue
		}
		m := Move{p.ID, MoveAway, p.Range, p.Fill}
		switch _, meet := p.Range.Intersect(p.Fill); {
		case !p.Range.Valid():
			m.Kind = MoveClone
		case meet:
			m.Kind = MoveMerge
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Move) int { return a.ID.Compare(b.ID) })
	return out
}
