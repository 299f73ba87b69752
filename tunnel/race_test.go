package tunnel

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

func TestRaceStartsCheapRoutesFirst(t *testing.T) {
	in := entrants(false, Routes(), []int{2})
	if len(in) != 4 {
		t.Fatalf("%d entrants", len(in))
	}
	now := time.Unix(100, 0)
	r := newRace(now, in)
	if a := r.tick(now); !reflect.DeepEqual(a.start, []int{0, 1}) {
		t.Errorf("at once: %v", a.start)
	}
	if d := r.next().Sub(now); d != relayDelay {
		t.Errorf("next after %v", d)
	}
	if a := r.failed(now, 0, false); len(a.start) != 0 {
		t.Errorf("one failed, one runs: %v started", a.start)
	}
	// Nobody runs any more: the relay need not wait.
	if a := r.failed(now.Add(time.Millisecond), 1, false); !reflect.DeepEqual(a.start, []int{2}) {
		t.Errorf("both failed: %v", a.start)
	}
	if a := r.tick(now.Add(relayDelay + nextRelay)); !reflect.DeepEqual(a.start, []int{3}) {
		t.Errorf("second relay: %v", a.start)
	}
	if a := r.won(3); a.winner != 3 || !reflect.DeepEqual(a.cancel, []int{2}) || !r.over {
		t.Errorf("won: %+v", a)
	}
	if a := r.won(2); a.winner != -1 {
		t.Error("two winners")
	}
}

func TestRaceGivesUpANodeThatHasAnswered(t *testing.T) {
	in := entrants(true, Routes(), []int{1, 1})
	now := time.Unix(100, 0)
	r := newRace(now, in)
	r.tick(now.Add(time.Second)) // all run
	a := r.failed(now.Add(time.Second), 1, true)
	for _, i := range a.cancel {
		if in[i].target != 0 {
			t.Errorf("entrant %d of another node was cancelled", i)
		}
	}
	if len(a.cancel) != 2 {
		t.Errorf("cancelled %v", a.cancel)
	}
	if a.failed {
		t.Error("the race is lost while others run")
	}
}

func TestForcedRoute(t *testing.T) {
	for _, e := range entrants(true, []Route{Relayed}, []int{9, 9}) {
		if e.route != Relayed {
			t.Errorf("entrant by %s", e.route)
		}
	}
}

// Whatever happens in whatever order, a race ends, starts everybody at most once and has one winner at most.
func TestRaceAlwaysEnds(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		relays := make([]int, rnd.IntN(8))
		for i := range relays {
			relays[i] = rnd.IntN(5)
		}
		in := entrants(rnd.IntN(2) == 0, Routes(), relays)
		now := time.Unix(100, 0)
		r := newRace(now, in)
		started := map[int]int{}
		winners, ended := 0, false
		take := func(a raceAction) {
			for _, i := range a.start {
				started[i]++
			}
			if a.winner >= 0 {
				winners++
			}
			ended = ended || a.failed || a.winner >= 0
		}
		take(r.tick(now))
		for steps := 0; !ended; steps++ {
			if steps > 1000 {
				t.Fatalf("seed %d: no end", seed)
			}
			var run []int
			for i, s := range r.state {
				if s == running {
					run = append(run, i)
				}
			}
			switch {
			case len(run) == 0:
				t.Fatalf("seed %d: nobody runs and the race is not over", seed)
			case rnd.IntN(3) == 0 && !r.next().IsZero():
				now = r.next()
				take(r.tick(now))
			case rnd.IntN(10) == 0:
				take(r.won(run[rnd.IntN(len(run))]))
			default:
				take(r.failed(now, run[rnd.IntN(len(run))], rnd.IntN(4) == 0))
			}
		}
		for i, n := range started {
			if n != 1 {
				t.Fatalf("seed %d: entrant %d started %d times", seed, i, n)
			}
		}
		if winners > 1 {
			t.Fatalf("seed %d: %d winners", seed, winners)
		}
	}
}
