package main

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"culvert/partition"
	"culvert/protocol"
)

// view is a map as a reader looks into it. partition.Map has the same answers but wants 20,000 signed records.
type view struct {
	segments []segment
	members  []partition.Member
}

type segment struct {
	from, to uint64
	members  []partition.Member
}

// newView cuts the key space where the set of those who serve changes.
func newView(placed []partition.Placement) *view {
	v := &view{}
	ends := []uint64{math.MaxUint64}
	for _, p := range placed {
		if !p.Range.Valid() {
			continue
		}
		v.members = append(v.members, partition.Member{
			Peer: protocol.Peer{ID: p.ID, Addr: p.Addresses[0]}, Addresses: p.Addresses, Range: p.Range, Domain: p.ID.Domain(),
		})
		if ends = append(ends, p.Range.To); p.Range.From > 0 {
			ends = append(ends, p.Range.From-1)
		}
	}
	slices.SortFunc(v.members, func(a, b partition.Member) int { return a.Peer.ID.Compare(b.Peer.ID) })
	slices.Sort(ends)
	ends = slices.Compact(ends)
	from := uint64(0)
	for _, to := range ends {
		v.segments = append(v.segments, segment{from: from, to: to})
		from = to + 1
	}
	for _, m := range v.members {
		i := v.at(m.Range.From)
		for ; i < len(v.segments) && v.segments[i].from <= m.Range.To; i++ {
			v.segments[i].members = append(v.segments[i].members, m)
		}
	}
	return v
}

func (v *view) at(position uint64) int {
	return sort.Search(len(v.segments), func(i int) bool { return v.segments[i].to >= position })
}

// serving are the members of the range that holds k, in order of ID.
func (v *view) serving(k protocol.ID) []partition.Member {
	return v.segments[v.at(k.Position())].members
}

// distribution is how a load lies on many.
type distribution struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

func distribute(l []float64) (d distribution) {
	if len(l) == 0 {
		return d
	}
	s := slices.SortedFunc(slices.Values(l), cmp.Compare[float64])
	for _, x := range s {
		d.Mean += x / float64(len(s))
	}
	at := func(q float64) float64 { return s[min(len(s)-1, int(q*float64(len(s))))] }
	d.P50, d.P90, d.P99, d.Max = at(0.5), at(0.9), at(0.99), s[len(s)-1]
	return d
}
