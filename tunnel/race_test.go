package tunnel

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRaceStartsCheapRoutesFirst(t *testing.T) {
	in := entrants(false, Routes(), []int{2})
	var routes []Route
	for _, e := range in {
		routes = append(routes, e.route)
	}
	if !slices.Equal(routes, []Route{LAN, Direct, Mapped, Punched, Relayed, Relayed}) {
		t.Fatalf("entrants %v", routes)
	}
	now := time.Unix(100, 0)
	r := newRace(now, in, time.Minute)
	if a := r.tick(now); !slices.Equal(a.start, []int{0, 1, 2}) {
		t.Errorf("at once: %v", a.start)
	}
	if d := r.next().Sub(now); d != punchDelay {
		t.Errorf("next after %v", d)
	}
	if a := r.failed(now, 0, false); len(a.start) != 0 {
		t.Errorf("one failed, two run: %v started", a.start)
	}
	r.failed(now, 1, false)
	// Nobody runs any more: who is next need not wait.
	if a := r.failed(now.Add(time.Millisecond), 2, false); !slices.Equal(a.start, []int{3}) {
		t.Errorf("all failed: %v", a.start)
	}
	if a := r.tick(now.Add(relayDelay)); !slices.Equal(a.start, []int{4}) {
		t.Errorf("the relay: %v", a.start)
	}
}

func TestBetterOnesGoOnBehindTheFirst(t *testing.T) {
	in := entrants(false, Routes(), []int{2, 1})
	now := time.Unix(100, 0)
	r := newRace(now, in, time.Minute)
	r.tick(now)
	now = now.Add(relayDelay)
	r.tick(now)
	a := r.won(now, 4)
	if a.winner != 4 || len(a.cancel) != 0 || a.over {
		t.Fatalf("the relay won: %+v", a)
	}
	now = now.Add(nextTarget)
	if a := r.tick(now); !slices.Equal(a.start, []int{6, 7, 8}) { // the other node by what costs no packets
		t.Errorf("started behind the winner: %v", a.start)
	}
	a = r.won(now, 3)
	if a.winner != 3 || r.state[4] != winning {
		t.Errorf("punched: %+v", a)
	}
	a = r.won(now, 2)
	if a.winner != 2 || !slices.Equal(a.cancel, []int{8}) {
		t.Errorf("mapped: %+v", a)
	}
	if a := r.won(now, 8); a.winner != -1 {
		t.Error("a cancelled one won")
	}
	if a := r.tick(r.next()); !a.over || a.failed || len(a.cancel) != 4 {
		t.Errorf("after a while: %+v", a)
	}
	if d := r.end.Sub(now); d > background {
		t.Errorf("it goes on for %v", d)
	}
}

func TestALivingLinkGoesFirst(t *testing.T) {
	in := behind(&path{route: Relayed}, 0, entrants(false, Routes(), []int{1}))
	now := time.Unix(100, 0)
	r := newRace(now, in, time.Minute)
	if a := r.tick(now); !slices.Equal(a.start, []int{0}) || r.next().Sub(now) != liveHead {
		t.Errorf("at once: %v", a.start)
	}
	if a := r.won(now, 0); a.winner != 0 || !a.over || len(a.start) > 0 {
		t.Errorf("it lives: %+v", a)
	}
	r = newRace(now, in, time.Minute)
	r.tick(now)
	if a := r.failed(now, 0, false); !slices.Equal(a.start, []int{1, 2, 3}) {
		t.Errorf("it is dead: %+v", a)
	}
}

func TestRaceGivesUpANodeThatHasAnswered(t *testing.T) {
	in := entrants(true, Routes(), []int{1, 1})
	now := time.Unix(100, 0)
	r := newRace(now, in, time.Minute)
	r.tick(now.Add(time.Second)) // all run
	a := r.failed(now.Add(time.Second), 1, true)
	for _, i := range a.cancel {
		if in[i].target != 0 {
			t.Errorf("entrant %d of another node was cancelled", i)
		}
	}
	if len(a.cancel) != 4 {
		t.Errorf("cancelled %v", a.cancel)
	}
	if a.failed {
		t.Error("the race is lost while others run")
	}
}

func TestForcedRoute(t *testing.T) {
	for _, want := range Routes() {
		for _, e := range entrants(true, []Route{want}, []int{9, 9}) {
			if e.route != want {
				t.Errorf("entrant by %s, not %s", e.route, want)
			}
		}
	}
}

// Whatever happens in whatever order: a race ends within its time; everybody is started at most once, and whoever was started is
// ended; each winner is better than the one before, so that no rank wins twice; nobody starts or wins who would not be better;
// a race without a winner has failed, and no other has.
func TestRaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		relays := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 8).Draw(t, "relays")
		routes := rapid.SliceOfNDistinct(rapid.SampledFrom(Routes()), 1, 5, rapid.ID[Route]).Draw(t, "routes")
		in := entrants(rapid.Bool().Draw(t, "self"), routes, relays)
		if len(relays) > 0 && rapid.Bool().Draw(t, "live") {
			in = behind(&path{route: routes[0]}, 0, in)
		}
		begin := time.Unix(100, 0)
		now := begin
		patience := rapid.SampledFrom([]time.Duration{0, time.Second, 15 * time.Second}).Draw(t, "patience")
		r := newRace(now, in, patience)
		const fresh, runs, ended = 0, 1, 2
		state := make([]int, len(in))
		best, over, failed := -1, false, false
		var firstWin time.Time
		take := func(a raceAction) {
			for _, i := range a.cancel {
				if state[i] != runs {
					t.Fatalf("%d is cancelled and does not run", i)
				}
				state[i] = ended
			}
			if a.winner >= 0 {
				if best >= 0 && in[a.winner].route.rank() >= in[best].route.rank() {
					t.Fatalf("%s won after %s", in[a.winner].route, in[best].route)
				}
				if best < 0 {
					firstWin = now
				}
				best = a.winner
			}
			for _, i := range a.start {
				if state[i] != fresh {
					t.Fatalf("%d is started again", i)
				}
				if best >= 0 && in[i].route.rank() >= in[best].route.rank() {
					t.Fatalf("%s is started behind %s", in[i].route, in[best].route)
				}
				state[i] = runs
			}
			over, failed = over || a.over, failed || a.failed
		}
		take(r.tick(now))
		for steps := 0; !over; steps++ {
			if steps > 1000 {
				t.Fatal("no end")
			}
			var run []int
			for i, s := range state {
				if s == runs {
					run = append(run, i)
				}
			}
			if len(run) == 0 {
				t.Fatal("nobody runs and the race is not over")
			}
			who := rapid.SampledFrom(run).Draw(t, "who")
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0, 1, 2:
				if next := r.next(); next.After(now) {
					now = next
				}
				take(r.tick(now))
			case 3, 4:
				state[who] = ended
				a := r.won(now, who)
				if a.winner != who {
					t.Fatalf("%d works and has not won", who)
				}
				take(a)
			default:
				state[who] = ended
				take(r.failed(now, who, rapid.IntRange(0, 3).Draw(t, "final") == 0))
			}
		}
		if failed != (best < 0) {
			t.Fatalf("failed: %t, winner: %d", failed, best)
		}
		for i, s := range state {
			if s == runs {
				t.Fatalf("%d was started and not ended", i)
			}
		}
		if now.After(begin.Add(patience)) || best >= 0 && now.After(firstWin.Add(background)) {
			t.Fatalf("it took %v", now.Sub(begin))
		}
		for i := range in {
			if a := r.won(now, i); a.winner >= 0 || len(a.start)+len(a.cancel) > 0 {
				t.Fatal("something happens after the end")
			}
		}
	})
}
