package dht_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

func answerOf(t *testing.T, tag int, p protocol.Payload) dht.Event {
	t.Helper()
	b, err := protocol.AppendPayload(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	return dht.Event{Kind: dht.EventAnswer, Tag: tag, Command: p.Command(), Payload: b}
}

// Who is told Busy asks another member in the same step, while the other question of the wave is still open.
func TestBusyMakesTheAskerGoElsewhereAtOnce(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 5)
	n := w.Node(7, "n")
	machines := map[string]stepper{
		"lookup": dht.NewLookup(lookupOf(w, ms, n, rand.New(rand.NewPCG(1, 1)))),
		"store": dht.NewStoreOp(dht.StoreConfig{
			Record: w.Info(n, 1, start), Own: 7, Timeout: 500 * time.Millisecond, Rand: rand.New(rand.NewPCG(1, 1)), Scores: dht.NewScores(),
			Placed: []dht.Placed{{Key: n.ID, Members: ms}},
		}),
	}
	for name, m := range machines {
		asked := map[protocol.ID]bool{}
		first := m.Step(start, dht.Event{Kind: dht.EventTick})
		if len(first) != 2 {
			t.Fatalf("%s: %d asked at first", name, len(first))
		}
		asked[first[0].Peer.ID], asked[first[1].Peer.ID] = true, true
		then := m.Step(start.Add(10*time.Millisecond), answerOf(t, first[0].Tag, protocol.Busy{RetryAfter: 1000}))
		if len(then) != 1 || then[0].Kind != dht.ActAsk || asked[then[0].Peer.ID] {
			t.Errorf("%s: after Busy %+v", name, then)
		}
		if !m.Deadline().Equal(start.Add(500 * time.Millisecond)) {
			t.Errorf("%s: Busy makes a wave longer, to %v", name, m.Deadline().Sub(start))
		}
	}
}

// A busy member is not asked before the time that it named, and not for long after: whatever it names. Readers who were refused
// together come back apart.
func TestBusyIsAskedLater(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 3)
	n := w.Node(7, "n")
	info := w.Info(n, 5, start)
	op, _ := w.Trust.Operator(w.OpID)
	readers := max(seeds(40), 16)
	for _, c := range []struct {
		named         uint32 // milliseconds
		least, within time.Duration
	}{
		{1000, time.Second, 1500 * time.Millisecond}, {0, 50 * time.Millisecond, 75 * time.Millisecond},
		{math.MaxUint32, 30 * time.Second, 45 * time.Second},
	} {
		back := map[time.Duration]bool{}
		for seed := range readers {
			cfg := lookupOf(w, ms, n, rand.New(rand.NewPCG(seed, 1)))
			refused := ms[0].Peer.ID
			look := func(now time.Time, reply0 protocol.Payload) (asked bool) {
				s := &sim{now: now, members: ms, answer: func(p protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
					switch p {
					case op.ID:
						return 0, nil
					case refused:
						return 0, reply0
					}
					return time.Millisecond, reply(info)
				}}
				s.run(t, dht.NewLookup(cfg))
				for _, id := range s.asked {
					asked = asked || id == refused
				}
				return asked
			}
			for range 50 { // it is one of the two at random
				if look(start, protocol.Busy{RetryAfter: c.named}) {
					break
				}
			}
			if st, ok := cfg.Scores.Standing(refused, start); !ok || !st.Busy || st.Suspect {
				t.Fatalf("standing %+v", st)
			}
			at := time.Duration(0)
			for ; at < time.Minute; at += c.least / 50 {
				if look(start.Add(at), reply(info)) {
					break
				}
			}
			if at < c.least || at > c.within+c.least/2 {
				t.Fatalf("named %d ms: asked again after %v", c.named, at)
			}
			back[at] = true
		}
		if len(back) < 8 {
			t.Errorf("named %d ms: %d readers come back at %d times", c.named, readers, len(back))
		}
	}
}

// Who is refused again and again comes back ever later; a sound answer ends that.
func TestBusyBacksOff(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 1)
	n := w.Node(7, "n")
	cfg := lookupOf(w, ms, n, rand.New(rand.NewPCG(1, 1)))
	cfg.Operators, cfg.NoRefresh = nil, true
	id := ms[0].Peer.ID
	ask := func(now time.Time, p protocol.Payload) {
		l := dht.NewLookup(cfg)
		acts := l.Step(now, dht.Event{Kind: dht.EventTick})
		if len(acts) == 1 && acts[0].Kind == dht.ActAsk {
			l.Step(now, answerOf(t, acts[0].Tag, p))
		}
	}
	busyFor := func(now time.Time) (d time.Duration) {
		for ; d < time.Hour; d += 10 * time.Millisecond {
			if st, _ := cfg.Scores.Standing(id, now.Add(d)); !st.Busy {
				return d
			}
		}
		return d
	}
	now, last := start, time.Duration(0)
	for i := range 4 {
		ask(now, protocol.Busy{RetryAfter: 200})
		d := busyFor(now)
		if d <= last {
			t.Errorf("refusal %d: back after %v, before that after %v", i+1, d, last)
		}
		last, now = d, now.Add(d)
	}
	ask(now, reply(w.Info(n, 5, start)))
	ask(now, protocol.Busy{RetryAfter: 200})
	if d := busyFor(now); d > 310*time.Millisecond {
		t.Errorf("after a sound answer and one refusal: %v", d)
	}
}

// Where two peers are about as near, they share what is asked first; one that is much farther gets none of it.
func TestNearOnesShare(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 4)
	s := dht.NewScores()
	for i, m := range ms {
		s.Good(m.Peer.ID, []time.Duration{10, 11, 12, 60}[i]*time.Millisecond)
	}
	r := rand.New(rand.NewPCG(1, 4))
	first := map[protocol.ID]int{}
	for range 300 {
		first[s.Order(ms, 7, start, r)[0].Peer.ID]++
	}
	for i, m := range ms {
		if got := first[m.Peer.ID]; i < 3 && got < 60 || i == 3 && got > 0 {
			t.Errorf("member %d is first %d times of 300", i, got)
		}
	}
	var none []partition.Member
	if len(s.Order(none, 7, start, r)) != 0 {
		t.Error("somebody out of nobody")
	}
}
