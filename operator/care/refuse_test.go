package care

import (
	"math/rand/v2"
	"testing"
	"time"
)

// busyFor refuses a share of all questions between two times.
func busyFor(share float64, from, to time.Duration) peer {
	return func(r *rand.Rand, now time.Time, _ *Task) Verdict {
		if d := now.Sub(start); d >= from && d < to && r.Float64() < share {
			return Busy
		}
		return Sound
	}
}

// TestAlwaysBusyIsIsolated: one that refuses everybody for load while the others of its range do not.
func TestAlwaysBusyIsIsolated(t *testing.T) {
	worst := time.Duration(0)
	for seed := range seeds(100) {
		_, found := run(seed, 30*time.Minute, nine(lossy(0.05, busyFor(1, 0, 24*time.Hour))), true)
		at, ok := found[id(9)]
		if !ok || len(found) != 1 {
			t.Fatalf("seed %d: isolated %v", seed, found)
		}
		if at < busyLimit*time.Minute {
			t.Fatalf("seed %d: isolated after %v already", seed, at)
		}
		worst = max(worst, at)
	}
	t.Logf("isolated after %v at most", worst.Round(time.Second))
}

// TestLoadIsNoLie: an overload, whoever of a range it hits, costs nobody its place, and neither does a disk that is new.
func TestLoadIsNoLie(t *testing.T) {
	all := func(p peer) []peer {
		ps := make([]peer, 10)
		for i := range ps {
			ps[i] = p
		}
		return ps
	}
	two := nine(busyFor(1, 0, 24*time.Hour)) // of the four of a range, with one that is stronger
	two[7], two[8] = two[9], two[9]
	for name, ps := range map[string][]peer{
		"all of a range always": all(busyFor(1, 0, 24*time.Hour)),
		"three of four always":  two,
		"one for ten minutes":   nine(busyFor(1, 10*time.Minute, 20*time.Minute)),
		"one at half":           nine(busyFor(0.5, 0, 24*time.Hour)),
		"one that fetches its range anew": nine(func(_ *rand.Rand, now time.Time, _ *Task) Verdict {
			if d := now.Sub(start); d > 5*time.Minute && d < 5*time.Minute+deniedFor-20*time.Second {
				return Denied
			}
			return Sound
		}),
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds(40) {
				if a, found := run(seed, time.Hour, ps, true); len(found) > 0 {
					t.Fatalf("seed %d: isolated %v: %v", seed, found, a.Score(start.Add(time.Hour), id(9)))
				}
			}
		})
	}
}
