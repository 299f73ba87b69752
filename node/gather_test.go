package node

import (
	"math"
	"testing"

	"culvert/partition"
	"culvert/protocol"
)

// Every range that super-nodes serve must have been heard; what an operator alone serves need not.
func TestCovered(t *testing.T) {
	const half = 1 << 63
	member := func(d protocol.Domain, from, to uint64) partition.Member {
		return partition.Member{Peer: protocol.Peer{ID: testID(d, 1)}, Domain: d, Range: partition.Range{From: from, To: to}}
	}
	a, b, c := member(7, 0, half-1), member(8, 0, half-1), member(9, half, math.MaxUint64)
	op := member(protocol.OperatorDomain, 0, math.MaxUint64)
	for _, x := range []struct {
		name    string
		members []partition.Member
		got     []partition.Member
		want    bool
	}{
		{"nobody", []partition.Member{a, c}, nil, false},
		{"one half", []partition.Member{a, b, c}, []partition.Member{a, b}, false},
		{"the other half", []partition.Member{a, b, c}, []partition.Member{c}, false},
		{"one of each", []partition.Member{a, b, c}, []partition.Member{b, c}, true},
		{"the operator's half", []partition.Member{a, op}, []partition.Member{a}, true},
		{"the operator alone", []partition.Member{op}, nil, true},
		{"the operator for them", []partition.Member{a, c, op}, []partition.Member{op}, false},
	} {
		got := make(map[protocol.ID]bool)
		for _, m := range x.got {
			got[m.Peer.ID] = true
		}
		if covered(x.members, got) != x.want {
			t.Errorf("%s: %v", x.name, !x.want)
		}
	}
}
