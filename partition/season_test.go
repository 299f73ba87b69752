package partition

import (
	"testing"

	"culvert/protocol"
)

// TestHalvesKeepSomebodyWhoServed: three who serve and three who have just filled make two ranges, each with one of the former.
func TestHalvesKeepSomebodyWhoServed(t *testing.T) {
	for seed := range seeds(200) {
		w := newWorld(t, seed, 20)
		for range Replicas {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
		}
		w.step()
		w.settle()
		old := make(map[protocol.ID]bool)
		for _, c := range w.supers {
			old[c.ID] = true
		}
		for range Replicas {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
		}
		w.step()
		for _, id := range w.filling() { // all of them at once
			w.fill(id)
		}
		w.step()
		shares := Ranges(w.present)
		if len(shares) != 2 {
			t.Fatalf("seed %d: not split:\n%s", seed, show(w.present))
		}
		for _, s := range shares {
			n := 0
			for _, id := range s.Serving {
				if old[id] {
					n++
				}
			}
			if n == 0 {
				t.Fatalf("seed %d: %v is left to those who have just begun:\n%s", seed, s.Range, show(w.present))
			}
		}
	}
}

// TestSplitWaitsForTheFirst: six who have filled at once serve the whole first, and are told apart after a while.
func TestSplitWaitsForTheFirst(t *testing.T) {
	w := newWorld(t, 2, 20)
	for range 2 * Replicas {
		w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
	}
	w.step()
	for _, id := range w.filling() {
		w.fill(id)
	}
	for _, want := range []int{1, 2} {
		if w.step(); len(Ranges(w.present)) != want {
			t.Fatalf("%d ranges, want %d:\n%s", len(Ranges(w.present)), want, show(w.present))
		}
	}
}
