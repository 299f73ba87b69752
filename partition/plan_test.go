package partition

import (
	"testing"

	"culvert/protocol"

	"pgregory.net/rapid"
)

// settle lets everybody finish, step by step, until nothing moves any more.
func (w *world) settle() (steps int) {
	for ; len(w.filling()) > 0 || steps == 0; steps++ {
		if steps > 60 {
			w.t.Fatalf("does not come to rest:\n%s", show(w.present))
		}
		for _, id := range w.filling() {
			w.fill(id)
		}
		w.step()
	}
	return steps
}

// event is something that happens to a mesh.
func (w *world) event(customers []protocol.Domain, aim int) {
	switch k := w.r.IntN(10); {
	case k < 3 && len(w.supers) < 2*aim:
		c := w.candidate(customers[w.r.IntN(len(customers))])
		if w.r.IntN(10) == 0 {
			c.Own = true
		}
		if w.r.IntN(20) == 0 { // never finishes what it is to fill
			w.stuck[c.ID] = true
		}
		w.join(c)
	case k < 5 && len(w.supers) > 0 && w.r.IntN(2*aim) < len(w.supers):
		w.leave(w.r.IntN(len(w.supers)))
	case k == 5 && w.r.IntN(20) == 0: // many at once
		for range len(w.supers) / 3 {
			w.leave(w.r.IntN(len(w.supers)))
		}
	default:
		for range 1 + w.r.IntN(4) {
			if ids := w.filling(); len(ids) > 0 {
				w.fill(ids[w.r.IntN(len(ids))])
			}
		}
	}
	w.step()
}

func TestPlanUnderChurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 30).Draw(t, "domains"))
		if rapid.IntRange(0, 9).Draw(t, "operator") == 0 {
			w.op.Addresses = nil
		}
		var customers []protocol.Domain
		for range rapid.IntRange(1, 40).Draw(t, "customers") {
			d := protocol.Domain(w.r.Uint32() | 1)
			if len(w.load) > 0 && w.r.IntN(2) == 0 {
				d = w.load[w.r.IntN(len(w.load))].Domain
			}
			customers = append(customers, d)
		}
		aim := rapid.IntRange(1, 30).Draw(t, "aim")
		for range 120 {
			w.event(customers, aim)
		}
		clear(w.stuck)
		w.settle()
	})
}
