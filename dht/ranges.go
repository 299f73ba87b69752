package dht

import (
	"slices"

	"culvert/partition"
)

// merged is l in order, without what is empty, and joined where ranges touch.
func merged(l ...partition.Range) []partition.Range {
	l = slices.DeleteFunc(slices.Clone(l), func(g partition.Range) bool { return !g.Valid() })
	slices.SortFunc(l, func(a, b partition.Range) int {
		switch {
		case a.From < b.From:
			return -1
		case a.From > b.From:
			return 1
		}
		return 0
	})
	var out []partition.Range
	for _, g := range l {
		if n := len(out); n > 0 && (g.From <= out[n-1].To || g.From == out[n-1].To+1) {
			out[n-1].To = max(out[n-1].To, g.To)
			continue
		}
		out = append(out, g)
	}
	return out
}

// within reports whether one of l holds all of from…to.
func within(l []partition.Range, from, to uint64) bool {
	return slices.ContainsFunc(l, func(g partition.Range) bool { return g.Contains(from) && g.Contains(to) })
}

// common is what a and b share.
func common(a, b []partition.Range) []partition.Range {
	var out []partition.Range
	for _, x := range a {
		for _, y := range b {
			if g, ok := x.Intersect(y); ok {
				out = append(out, g)
			}
		}
	}
	return merged(out...)
}

// without is what is in a and not in b.
func without(a, b []partition.Range) []partition.Range {
	left := merged(a...)
	for _, cut := range merged(b...) {
		var next []partition.Range
		for _, g := range left {
			if _, ok := g.Intersect(cut); !ok {
				next = append(next, g)
				continue
			}
			if g.From < cut.From {
				next = append(next, partition.Range{From: g.From, To: cut.From - 1})
			}
			if cut.To < g.To {
				next = append(next, partition.Range{From: cut.To + 1, To: g.To})
			}
		}
		left = next
	}
	return left
}

func one(g partition.Range) []partition.Range { return merged(g) }
