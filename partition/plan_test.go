package partition

import (
	"slices"
	"testing"

	"culvert/protocol"

	"pgregory.net/rapid"
)

// settle lets everybody finish, step by step, until nothing moves any more.
func (w *world) settle() (steps int) {
	for moved := true; len(w.filling()) > 0 || moved; steps++ {
		if steps > 60 {
			w.t.Fatalf("does not come to rest:\n%s", show(w.present))
		}
		for _, id := range w.filling() {
			w.fill(id)
		}
		before := w.present
		w.step()
		moved = !same(before, w.present)
	}
	return steps
}

// calm ends what holds anybody up.
func (w *world) calm() {
	clear(w.stuck)
	for i := range w.supers {
		w.supers[i].Paused = false
	}
	w.step()
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
	case k == 6 && len(w.supers) > 0: // one hangs, or may fill again
		c := &w.supers[w.r.IntN(len(w.supers))]
		c.Paused = !c.Paused && (w.stuck[c.ID] || w.r.IntN(5) == 0)
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
		w.calm()
		w.settle()
	})
}

// TestTenThousandEvents: joins, leaves, failures and fills in whatever order. What a map must be is checked after each.
func TestTenThousandEvents(t *testing.T) {
	w := newWorld(t, 4, 40)
	var customers []protocol.Domain
	for i := range 25 {
		customers = append(customers, w.load[i].Domain, w.load[i/5].Domain)
	}
	w.step()
	w.lost = 0
	for range seeds(10_000) {
		w.event(customers, 30)
	}
	w.calm()
	w.settle()
	t.Logf("%d times a group had more than its third for want of others; the last holder of a piece died %d times", w.exceeded, w.lost)
}

// TestMovementIsBounded: what one event sets moving. A newcomer fills one range; a loss has one member move, or the members of
// two ranges that become one fill what they lack.
func TestMovementIsBounded(t *testing.T) {
	worst, sum, losses := 0, 0, 0
	for seed := range seeds(30) {
		w := newWorld(t, seed, 60)
		for range 40 {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
			w.step()
			if w.changed > 1 && len(w.supers) > Replicas { // the first few wait for one another with the operator
				t.Fatalf("seed %d: a newcomer set %d moving:\n%s", seed, w.changed, show(w.present))
			}
			w.settle()
		}
		for range 30 {
			w.leave(w.r.IntN(len(w.supers)))
			w.step()
			worst, sum, losses = max(worst, w.changed), sum+w.changed, losses+1
			if w.changed > 2*(2*Replicas-1)+1 {
				t.Fatalf("seed %d: a loss set %d moving:\n%s", seed, w.changed, show(w.present))
			}
			w.settle()
		}
	}
	t.Logf("a loss set %.1f members moving on average, %d at most", float64(sum)/float64(losses), worst)
}

// TestDeadRangeIsServedAtOnce: all that serve a range are lost. The operator serves it in the next map, with the static records.
func TestDeadRangeIsServedAtOnce(t *testing.T) {
	for seed := range seeds(20) {
		w := newWorld(t, seed, 60)
		for range 25 {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
			w.step()
			w.settle()
		}
		w.lost = 0
		shares := Ranges(w.present)
		dead := shares[w.r.IntN(len(shares))]
		for _, id := range dead.Serving {
			w.leave(slices.IndexFunc(w.supers, func(c Candidate) bool { return c.ID == id }))
		}
		w.step()
		for _, s := range Ranges(w.present) {
			if overlaps(s.Range, dead.Range) && !slices.Equal(s.Serving, []protocol.ID{w.op.ID}) {
				t.Fatalf("seed %d: %v is served by %v:\n%s", seed, s.Range, s.Serving, show(w.present))
			}
			if !overlaps(s.Range, dead.Range) && slices.Contains(s.Serving, w.op.ID) {
				t.Fatalf("seed %d: the operator serves %v without what is there:\n%s", seed, s.Range, show(w.present))
			}
		}
		w.settle()
		if w.placed(w.op.ID) || w.lost != 1 {
			t.Fatalf("seed %d, %d pieces lost:\n%s", seed, w.lost, show(w.present))
		}
	}
}

// TestOperatorReachesNotTooFar: with losses at both ends of many ranges it does not carry all that lies between.
func TestOperatorReachesNotTooFar(t *testing.T) {
	w := newWorld(t, 3, 200)
	for range 120 {
		w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
		w.step()
		w.settle()
	}
	shares := Ranges(w.present)
	if len(shares) < 20 {
		t.Fatalf("only %d ranges", len(shares))
	}
	for _, s := range []Share{shares[0], shares[len(shares)-1]} {
		for _, id := range s.Serving[:len(s.Serving)-2] {
			w.leave(slices.IndexFunc(w.supers, func(c Candidate) bool { return c.ID == id }))
		}
	}
	w.step()
	n := 0
	for _, s := range Ranges(w.present) {
		if slices.Contains(s.Serving, w.op.ID) || slices.Contains(s.Filling, w.op.ID) {
			n++
		}
	}
	if n == 0 || n > 2*operatorSpan {
		t.Errorf("the operator is a member of %d ranges:\n%s", n, show(w.present))
	}
}
