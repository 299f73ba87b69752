package partition

import (
	"slices"
	"testing"

	"culvert/protocol"
)

// TestPausedFillsNothing: who never finishes loses its place to somebody in reserve, keeps what it serves, and is used again later.
func TestPausedFillsNothing(t *testing.T) {
	w := newWorld(t, 5, 10)
	for i := range 2 * Replicas {
		w.join(w.candidate(protocol.Domain(100 + i)))
	}
	w.stuck[w.supers[0].ID] = true
	w.step()
	for range 10 {
		for _, id := range w.filling() {
			w.fill(id)
		}
		w.step()
	}
	hanging := w.supers[0].ID
	if !w.placed(hanging) || len(Ranges(w.present)) != 1 {
		t.Fatalf("%s fills nothing, or the range was split:\n%s", hanging.Short(), show(w.present))
	}
	state := func() State { return State{Supers: w.supers, Operator: w.op, Present: w.present, Load: w.load} }
	if Replaceable(state(), hanging) {
		t.Error("nobody is in reserve and it can be replaced")
	}
	w.join(w.candidate(500))
	w.step()
	if !Replaceable(state(), hanging) {
		t.Errorf("it cannot be replaced:\n%s", show(w.present))
	}
	w.supers[0].Paused = true
	w.step()
	if w.placed(hanging) {
		t.Errorf("it has its place still:\n%s", show(w.present))
	}
	w.settle()
	if w.placed(hanging) || len(Ranges(w.present)) != 2 {
		t.Errorf("not split:\n%s", show(w.present))
	}
	clear(w.stuck)
	w.supers[slices.IndexFunc(w.supers, func(c Candidate) bool { return c.ID == hanging })].Paused = false
	w.step()
	w.settle()
	if !w.serves(hanging) {
		t.Errorf("it is not used again:\n%s", show(w.present))
	}
}

// TestPausedServesOn: at a merge it keeps what it serves until others serve that.
func TestPausedServesOn(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(t, seed, 30)
		for range 12 {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
		}
		w.step()
		w.settle()
		for len(w.supers) > 4 {
			w.leave(w.r.IntN(len(w.supers)))
			w.supers[w.r.IntN(len(w.supers))].Paused = true
			w.step() // nobody drops what nobody else has
			w.settle()
		}
		for i := range w.supers {
			w.supers[i].Paused = false
		}
		w.step()
		w.settle()
		for _, s := range Ranges(w.present) {
			if len(s.Serving) < Replicas {
				t.Fatalf("seed %d: %v has too few:\n%s", seed, s.Range, show(w.present))
			}
		}
	}
}
