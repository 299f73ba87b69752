package partition

import (
	"slices"
	"testing"

	"culvert/protocol"
)

// holdsAtMostAThird fails where domain d has more of a range than a third of its members, or of those that serve it.
func (w *world) holdsAtMostAThird(d protocol.Domain) {
	for _, s := range Ranges(w.present) {
		for _, ids := range [][]protocol.ID{slices.Concat(s.Serving, s.Filling), s.Serving} {
			if n := count(ids, d); n > max(1, len(ids)/3) || n > 0 && len(ids) < Replicas {
				w.t.Fatalf("%s has %d of %d in %v:\n%s", d, n, len(ids), s.Range, show(w.present))
			}
		}
	}
}

func count(ids []protocol.ID, d protocol.Domain) (n int) {
	for _, id := range ids {
		if id.Domain() == d {
			n++
		}
	}
	return n
}

// TestThousandOfOneCustomer: a customer's thousand super-nodes come before, between and after those of others. As soon as one
// other serves, and ever after, they are at most a third of every range, counting the operator.
func TestThousandOfOneCustomer(t *testing.T) {
	for seed := range max(seeds(12), 3) { // each way to come
		w := newWorld(t, seed, 50)
		flood, left := protocol.Domain(w.r.Uint32()|1), 1000
		others := 0
		add := func(n int) {
			for range min(n, left) {
				w.join(w.candidate(flood))
				left--
			}
		}
		w.step()
		switch seed % 3 {
		case 0:
			add(1000)
		case 1:
			add(300)
		}
		w.step()
		w.settle()
		for range 20 {
			w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
			others++
			for range 4 { // in the midst of hand-overs too
				w.step()
				if others > 1 {
					w.holdsAtMostAThird(flood)
				}
				if ids := w.filling(); len(ids) > 0 {
					w.fill(ids[w.r.IntN(len(ids))])
				}
			}
			w.settle()
			w.holdsAtMostAThird(flood)
			if seed%3 == 1 {
				add(w.r.IntN(70))
			}
		}
		add(1000)
		for len(w.supers) > 1000+3 {
			w.settle()
			w.holdsAtMostAThird(flood)
			w.leave(slices.IndexFunc(w.supers, func(c Candidate) bool { return c.ID.Domain() != flood }))
			w.step()
		}
		if n := len(Ranges(w.present)); seed == 0 && n == 0 {
			t.Fatal("no ranges")
		}
	}
}

// TestNeighbourCapturesNothing: the keys of a target lie beside those of an attacker with a neighbouring domain number, who
// tries as often as it likes with fresh super-nodes. It never has a majority of those who serve or keep the target's keys.
func TestNeighbourCapturesNothing(t *testing.T) {
	inside, steps := 0, 0
	for seed := range seeds(40) {
		w := newWorld(t, seed, 40)
		target := w.load[w.r.IntN(len(w.load))].Domain
		attacker := target + 1
		if seed%2 == 1 {
			attacker = target - 1
		}
		var customers []protocol.Domain
		for range 15 {
			customers = append(customers, w.load[w.r.IntN(len(w.load))].Domain, protocol.Domain(w.r.Uint32()|1))
		}
		customers = slices.DeleteFunc(customers, func(d protocol.Domain) bool { return d == attacker })
		for range 12 {
			w.join(w.candidate(customers[w.r.IntN(len(customers))]))
		}
		w.step()
		w.settle()
		check := func() {
			for _, s := range Ranges(w.present) {
				if !overlaps(s.Range, domainRange(target)) {
					continue
				}
				steps++
				if count(s.Serving, attacker) > 0 {
					inside++
				}
				for _, ids := range [][]protocol.ID{slices.Concat(s.Serving, s.Filling), s.Serving} {
					if n := count(ids, attacker); 2*n > len(ids) {
						t.Fatalf("seed %d: the attacker has %d of %d in %v:\n%s", seed, n, len(ids), s.Range, show(w.present))
					}
				}
			}
		}
		for range 100 {
			switch w.r.IntN(6) {
			case 0, 1:
				w.join(w.candidate(attacker))
			case 2: // one that is in the wrong place makes room for another try
				i := slices.IndexFunc(w.supers, func(c Candidate) bool { return c.ID.Domain() == attacker && w.placed(c.ID) })
				if i >= 0 {
					w.leave(i)
				}
			case 3:
				w.join(w.candidate(customers[w.r.IntN(len(customers))]))
			case 4: // an honest one is lost; what others fill for it is done before the next
				if i := w.r.IntN(len(w.supers)); w.supers[i].ID.Domain() != attacker && len(w.supers) > 10 {
					w.leave(i)
					w.step()
					check()
					w.settle()
				}
			default:
				if ids := w.filling(); len(ids) > 0 {
					w.fill(ids[w.r.IntN(len(ids))])
				}
			}
			w.step()
			check()
		}
	}
	t.Logf("in %d of %d looks at the target's range one of the attacker's served it", inside, steps)
}
