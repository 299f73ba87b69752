package partition

import (
	"slices"
	"testing"

	"culvert/protocol"
)

// crafted is a world with a map that a plan may come upon. Each entry is a domain, what it serves and what it fills.
func crafted(t *testing.T, seed uint64, entries ...any) *world {
	w := newWorld(t, seed, 0)
	for i := 0; i < len(entries); i += 3 {
		c := w.candidate(protocol.Domain(entries[i].(int)))
		p := Placement{Candidate: c, Range: entries[i+1].(Range), Fill: entries[i+2].(Range)}
		w.join(c)
		w.present = append(w.present, p)
		w.data[c.ID] = set(nil).add(p.Range)
	}
	slices.SortFunc(w.present, func(a, b Placement) int { return a.ID.Compare(b.ID) })
	return w
}

var first3 = [3]Range{{0, 1<<62 - 1}, {1 << 62, 1<<63 - 1}, {1 << 63, Whole().To}}

// TestThreeCustomersSplit: with members of three customers alone a range has 2R only if each has two there. They come in
// threes; none of the second ones serves before the split that parts it from the first.
func TestThreeCustomersSplit(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 30)
		for _, d := range []protocol.Domain{5 << 24, 90 << 24, 200 << 24} {
			for range 4 {
				w.join(w.candidate(d))
			}
		}
		w.step()
		for n := 0; len(w.filling()) > 0; n++ {
			if n > 100 {
				t.Fatalf("seed %d: no end:\n%s", seed, show(w.present))
			}
			ids := w.filling()
			w.fill(ids[w.r.IntN(len(ids))])
			w.step()
		}
		if len(Ranges(w.present)) != 4 || len(w.present) != 12 {
			t.Fatalf("seed %d:\n%s", seed, show(w.present))
		}
	}
}

// TestMoverStaysWhereItIsTheLast: those that it left a range to are lost before it has finished elsewhere.
func TestMoverStaysWhereItIsTheLast(t *testing.T) {
	low, high := Range{0, 1<<63 - 1}, Range{1 << 63, Whole().To}
	w := crafted(t, 1, 1, low, high, 2, high, None(), 3, high, None())
	mover := w.supers[0].ID
	w.fill(mover)
	w.step()
	for _, s := range Ranges(w.present) {
		if overlaps(s.Range, low) && !slices.Contains(s.Serving, mover) {
			t.Fatalf("it is gone:\n%s", show(w.present))
		}
	}
	w.settle()
	if w.lost != 0 {
		t.Errorf("%d pieces lost", w.lost)
	}
}

// TestMergeMindsThoseLeaving: a customer's member still serves a range that it leaves when the range goes together with
// another, where that customer has a member too. The limit counts both.
func TestMergeMindsThoseLeaving(t *testing.T) {
	for seed := range uint64(10) {
		r := first3
		w := crafted(t, seed,
			1, r[1], r[2], 8, r[2], None(), 9, r[2], None(), 10, r[2], None(), // 1 is on its way from the second range to the third
			2, r[1], None(), 3, r[1], None(), 4, r[1], None(),
			1, r[0], None())
		w.step()
		for _, sh := range Ranges(w.present) {
			if n := count(slices.Concat(sh.Serving, sh.Filling), 1); n > 1 {
				t.Fatalf("%d of one customer in %v:\n%s", n, sh.Range, show(w.present))
			}
		}
		w.settle()
	}
}

// TestNobodyIsDrawnAwayFromItsTwin: where two of one customer wait for a split, neither goes to another range.
func TestNobodyIsDrawnAwayFromItsTwin(t *testing.T) {
	for seed := range uint64(30) {
		r := first3
		w := crafted(t, seed,
			1, r[0], None(), 2, r[0], None(), 3, r[0], None(), 4, r[0], None(), 1, None(), r[0], 2, None(), r[0],
			5, r[1], None(), 6, r[1], None(), 7, r[1], r[2],
			8, r[2], None(), 9, r[2], None())
		w.step()
		w.settle()
	}
}
