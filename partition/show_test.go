package partition

import (
	"math"
	"reflect"
	"testing"

	"culvert/protocol"
)

func TestRangesAndMoves(t *testing.T) {
	id := func(n byte) Candidate { return Candidate{ID: protocol.NewID(protocol.Domain(n), protocol.Hash{})} }
	low, high := Range{0, 99}, Range{100, math.MaxUint64}
	ps := []Placement{{id(1), low, None(), false}, {id(2), low, Whole(), false}, {id(3), high, low, false}, {id(4), None(), high, false}}
	one, two, three, four := ps[0].ID, ps[1].ID, ps[2].ID, ps[3].ID
	if got, want := Ranges(ps), []Share{
		{low, []protocol.ID{one, two}, []protocol.ID{three}},
		{high, []protocol.ID{three}, []protocol.ID{two, four}},
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("ranges %v", got)
	}
	if got, want := Moving(ps), []Move{{two, MoveMerge, low, Whole()}, {three, MoveAway, high, low}, {four, MoveClone, None(), high}}; !reflect.DeepEqual(got, want) {
		t.Errorf("moves %v", got)
	}
	if got := Ranges(nil); len(got) != 1 || got[0].Range != Whole() || got[0].Serving != nil {
		t.Errorf("no map: %v", got)
	}
}
