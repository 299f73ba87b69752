package partition

import (
	"slices"
	"testing"
	"time"

	"culvert/protocol"
)

// TestGrowAndShrink goes from the operator alone to twelve super-nodes and back to two.
func TestGrowAndShrink(t *testing.T) {
	for seed := range seeds(20) {
		w := newWorld(t, seed, 200)
		w.step()
		w.lost = 0 // nobody held anything before the operator
		for range 12 {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
			w.step()
			w.settle()
		}
		if n := len(Ranges(w.present)); n < 2 || n > 4 {
			t.Fatalf("seed %d: twelve super-nodes serve %d ranges:\n%s", seed, n, show(w.present))
		}
		if w.placed(w.op.ID) {
			t.Fatalf("seed %d: the operator is still there:\n%s", seed, show(w.present))
		}
		for len(w.supers) > 2 {
			w.leave(w.r.IntN(len(w.supers)))
			w.step()
			w.settle()
		}
		if n := len(Ranges(w.present)); n != 1 || len(w.present) != 3 || w.lost > 0 {
			t.Fatalf("seed %d: two are left, %d ranges, %d lost:\n%s", seed, n, w.lost, show(w.present))
		}
	}
}

// TestTwentyThousand plans for a mesh of a million nodes, of which one in fifty volunteers. One customer has three quarters.
func TestTwentyThousand(t *testing.T) {
	total := 20_000
	if testing.Short() {
		total = 4000
	}
	w := newWorld(t, 1, total/4)
	big := protocol.Domain(w.r.Uint32() | 1)
	for i := range total {
		d := protocol.Domain(w.r.Uint32() | 1)
		if i%4 > 0 {
			d = big
		}
		w.join(w.candidate(d))
	}
	s := State{Supers: w.supers, Operator: w.op, Load: w.load}
	longest := time.Duration(0)
	plan := func() {
		at := time.Now()
		next := Next(s, w.r)
		longest = max(longest, time.Since(at))
		s.Present, s.Filled = next, map[protocol.ID]bool{}
		for _, p := range next {
			if p.Fill.Valid() {
				s.Filled[p.ID] = true
			}
		}
	}
	for i, moved := 0, true; moved || len(s.Filled) > 0; i++ {
		before := s.Present
		if plan(); i > 100 {
			t.Fatalf("%d still fill after %d plans", len(s.Filled), i)
		}
		moved = !same(before, s.Present)
	}
	n, ranges := len(s.Present), len(Ranges(s.Present))
	if n < total*3/10 || n > total*4/10 { // all others, and of the big customer at most a third of those on the map
		t.Errorf("%d super-nodes on the map, in %d ranges", n, ranges)
	}
	grown := longest
	longest = 0
	s.Supers = slices.Delete(slices.Clone(s.Supers), total/4, total/4+1)
	plan()
	one := longest
	longest = 0
	s.Supers = s.Supers[:len(s.Supers)/2]
	plan()
	t.Logf("%d super-nodes in %d ranges; a plan took up to %v, %v after one loss, %v after the loss of half", n, ranges, grown, one, longest)
}
