package care

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"

	"pgregory.net/rapid"
)

// fillers is a map on which n fill everything, and their IDs in its order.
func fillers(t *testing.T, n int) (*partition.Map, []protocol.ID) {
	t.Helper()
	w := storetest.NewWorld(t)
	var recs [][]byte
	for i := range n {
		node := w.Node(protocol.Domain(7+i), "filler")
		p := partition.Placement{Range: partition.None(), Fill: partition.Whole(), Candidate: partition.Candidate{
			ID: node.ID, Signing: node.Keys.Signing.Public(), Sealing: node.Keys.Sealing.Public(),
			Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7700)},
		}}
		recs = append(recs, w.Static(protocol.Record{Table: protocol.TableSuperNode, Owner: node.ID, Sequence: 1}, p.Value(1)))
	}
	hv, err := partition.Head(1, recs)
	if err != nil {
		t.Fatal(err)
	}
	head := w.Static(protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(w.Trust.Root()), Sequence: 1}, hv)
	m, err := partition.Build(head, recs, func(*protocol.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var ids []protocol.ID
	for _, mem := range m.Members() {
		ids = append(ids, mem.Peer.ID)
	}
	return m, ids
}

// follow runs the looks at who fills for d; see says what each shows. It returns when each was first found to have stalled.
func follow(m *partition.Map, d, step time.Duration, see func(at time.Duration, l Look) Seen) map[protocol.ID]time.Duration {
	h := NewHandOver()
	found := make(map[protocol.ID]time.Duration)
	for at := time.Duration(0); at < d; at += step {
		now := start.Add(at)
		h.Proven(m)
		for _, l := range h.Due(now, m) {
			h.Finished(now, l.Peer.ID, see(at, l))
		}
		for _, s := range h.Stalled(now, m) {
			if _, ok := found[s.ID]; !ok {
				found[s.ID] = at
			}
		}
	}
	return found
}

const total = 50_000

// held is what honest holders say.
func held(l Look) *Held {
	if !l.Holders {
		return nil
	}
	return &Held{Answered: true, Low: total, High: total}
}

func TestWhoNeverFinishesIsFound(t *testing.T) {
	for name, see := range map[string]func(at time.Duration, l Look) Seen{
		"says nothing":   func(_ time.Duration, l Look) Seen { return Seen{Holders: held(l)} },
		"takes nothing":  func(_ time.Duration, l Look) Seen { return Seen{Answered: true, Holders: held(l)} },
		"stops half way": func(_ time.Duration, l Look) Seen { return Seen{Answered: true, Have: total / 2, Holders: held(l)} },
		"claims more and more": func(at time.Duration, l Look) Seen {
			return Seen{Answered: true, Have: total + uint64(at), Holders: held(l)}
		},
		"a pair at a time": func(at time.Duration, l Look) Seen {
			return Seen{Answered: true, Have: uint64(at / time.Minute), Holders: held(l)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, ids := fillers(t, 1)
			at, ok := follow(m, time.Hour, time.Second, see)[ids[0]]
			limit := StallAfter
			if name == "claims more and more" {
				limit *= 2
			}
			if !ok || at < limit || at > limit+2*time.Minute {
				t.Errorf("found: %v, after %v", ok, at)
			}
		})
	}
}

// TestWhoIsNotToBlame: one that comes further, one whose holders do not answer, and one that nobody looked at stay.
func TestWhoIsNotToBlame(t *testing.T) {
	slow := func(at time.Duration) uint64 { return uint64(at/(9*time.Minute)) * (total / stallShare) }
	for name, see := range map[string]func(at time.Duration, l Look) Seen{
		"slow": func(at time.Duration, l Look) Seen { return Seen{Answered: true, Have: slow(at), Holders: held(l)} },
		"slow, and one of two holders makes much of it": func(at time.Duration, l Look) Seen {
			s := Seen{Answered: true, Have: slow(at)}
			if l.Holders {
				s.Holders = &Held{Answered: true, Low: total, High: 1 << 40}
			}
			return s
		},
		"slow, and one of two holders denies everything": func(at time.Duration, l Look) Seen {
			s := Seen{Answered: true, Have: slow(at)}
			if l.Holders {
				s.Holders = &Held{Answered: true, High: total}
			}
			return s
		},
		"nobody to take from": func(_ time.Duration, l Look) Seen {
			s := Seen{Answered: true, Have: 7}
			if l.Holders {
				s.Holders = &Held{}
			}
			return s
		},
		"proven": func(_ time.Duration, l Look) Seen { return Seen{Answered: true, Proven: true, Holders: held(l)} },
	} {
		t.Run(name, func(t *testing.T) {
			m, ids := fillers(t, 1)
			if at, ok := follow(m, 10*time.Hour, time.Second, see)[ids[0]]; ok {
				t.Errorf("found after %v", at)
			}
		})
	}
	t.Run("the operator was away", func(t *testing.T) {
		m, ids := fillers(t, 1)
		none := func(_ time.Duration, l Look) Seen { return Seen{Answered: true, Holders: held(l)} }
		if at, ok := follow(m, 3*time.Hour, time.Hour, none)[ids[0]]; ok {
			t.Errorf("found after %v", at)
		}
	})
}

// TestStallsUnderAnySchedule: whatever is lost and however late looks end, who grows by a share each few minutes stays, and who
// does not is found once the holders have answered for long enough; with a rival if another grows.
func TestStallsUnderAnySchedule(t *testing.T) {
	m, ids := fillers(t, 4)
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		loss := rapid.Float64Range(0, 0.4).Draw(t, "loss")
		away := rapid.Float64Range(0, 0.9).Draw(t, "holders away")
		honest := make(map[protocol.ID]bool)
		for _, id := range ids {
			honest[id] = rapid.Bool().Draw(t, "honest")
		}
		h := NewHandOver()
		have := make(map[protocol.ID]uint64)
		up, until := true, time.Duration(0) // the holders
		answered := time.Duration(0)        // for how long they have been up
		lastGrowth := time.Duration(0)
		type open struct {
			at   time.Duration
			look Look
		}
		var running []open
		found := make(map[protocol.ID]bool)
		const step = 2 * time.Second
		for at := time.Duration(0); at < 2*time.Hour; at += step {
			now := start.Add(at)
			if at >= until {
				up = r.Float64() >= away
				until = at + time.Duration(r.Int64N(int64(5*time.Minute)))
			}
			if up {
				answered += step
			}
			if up && at-lastGrowth > 3*time.Minute {
				lastGrowth = at
				for id, is := range honest {
					if is {
						have[id] += total / stallShare
					}
				}
			}
			h.Proven(m)
			for _, l := range h.Due(now, m) {
				running = append(running, open{at + time.Duration(r.Int64N(int64(30*time.Second))), l})
			}
			rest := running[:0]
			for _, o := range running {
				if o.at > at {
					rest = append(rest, o)
					continue
				}
				s := Seen{Answered: r.Float64() >= loss, Have: have[o.look.Peer.ID]}
				if o.look.Holders {
					s.Holders = &Held{Answered: up, Low: total, High: total}
				}
				h.Finished(now, o.look.Peer.ID, s)
			}
			running = rest
			for _, s := range h.Stalled(now, m) {
				found[s.ID] = true
				if honest[s.ID] {
					t.Fatalf("one that goes on is found after %v, of which holders answered %v", at, answered)
				}
			}
		}
		for id, is := range honest {
			if !is && !found[id] && answered > 100*time.Minute {
				t.Fatalf("one that does nothing is not found in two hours, in which holders answered for %v", answered)
			}
		}
	})
}

// TestRival: another that goes on is told from others that hang too.
func TestRival(t *testing.T) {
	for _, goes := range []bool{false, true} {
		m, ids := fillers(t, 2)
		h := NewHandOver()
		var stalls []Stall
		for at := time.Duration(0); at < StallAfter+5*time.Minute; at += time.Second {
			now := start.Add(at)
			for _, l := range h.Due(now, m) {
				s := Seen{Answered: true, Holders: held(l)}
				if l.Peer.ID == ids[1] && goes {
					s.Have = uint64(at/time.Minute+1) * (total / stallShare)
				}
				h.Finished(now, l.Peer.ID, s)
			}
			stalls = append(stalls, h.Stalled(now, m)...)
		}
		if len(stalls) == 0 || stalls[0].ID != ids[0] && goes || stalls[0].Rival != goes {
			t.Errorf("another goes on: %v; %+v", goes, stalls)
		}
	}
}

func TestPausesGrow(t *testing.T) {
	last := time.Duration(0)
	for n := range 40 {
		p := FillPause(n + 1)
		if p < last || p > lastPause || n < 5 && p != firstPause<<n {
			t.Errorf("pause %d is %v", n+1, p)
		}
		last = p
	}
	if last != lastPause {
		t.Errorf("the last is %v", last)
	}
}
