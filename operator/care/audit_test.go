package care

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"culvert/protocol"
)

var start = time.UnixMilli(1_800_000_000_000)

// seeds is how many there are, where there is time: what runs in one goroutine shows the race detector nothing.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return max(n/20, 2)
	}
	return n
}

func id(n int) protocol.ID {
	var h protocol.Hash
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return protocol.NewID(protocol.Domain(n), h)
}

// peer plays one super-node: it says how a question ends.
type peer func(r *rand.Rand, now time.Time, t *Task) Verdict

// lossy asks three times over a way that loses so much each way.
func lossy(loss float64, p peer) peer {
	return func(r *rand.Rand, now time.Time, t *Task) Verdict {
		for range 3 {
			if there, back := r.Float64(), r.Float64(); there >= loss && back >= loss {
				return p(r, now, t)
			}
		}
		return Unanswered
	}
}

func honest(_ *rand.Rand, _ time.Time, _ *Task) Verdict { return Sound }

// subject is what the driver would have chosen.
func subject(r *rand.Rand, t *Task) {
	if t.Step == Ask {
		t.Subject = Subject{Name: fmt.Sprint("record ", r.IntN(1000)), Signed: r.IntN(4) > 0}
	}
}

// withholds denies a share of all questions, also for what it has just acknowledged.
func withholds(share float64) peer {
	return func(r *rand.Rand, _ time.Time, t *Task) Verdict {
		if t.Step != Hand && r.Float64() < share {
			return Missing
		}
		return Sound
	}
}

// run drives an audit for d and returns when each was isolated.
func run(seed uint64, d time.Duration, peers []peer, alive bool) (*Audit, map[protocol.ID]time.Duration) {
	r := rand.New(rand.NewPCG(seed, 1))
	a := NewAudit(rand.New(rand.NewPCG(seed, 2)))
	found := make(map[protocol.ID]time.Duration)
	reset := func(now time.Time) {
		var ms []Member
		for i := range peers {
			_, is := found[id(i)]
			m := Member{ID: id(i), Alive: alive, Isolated: is}
			for j := range peers { // ranges of three, the last of four
				if j != i && (min(j, 8)/3 == min(i, 8)/3) {
					m.Peers = append(m.Peers, id(j))
				}
			}
			ms = append(ms, m)
		}
		a.SetMembers(now, ms)
	}
	reset(start)
	var looked time.Time
	for now := start; now.Sub(start) < d; now = a.Deadline() {
		for _, t := range a.Due(now) {
			subject(r, &t)
			a.Finished(now, t, peers[t.Member.Domain()](r, now, &t))
		}
		if now.Sub(looked) < time.Second {
			continue
		}
		looked = now
		for _, f := range a.Findings(now) {
			found[f.ID] = now.Sub(start)
			reset(now)
		}
	}
	return a, found
}

func nine(last peer) []peer {
	ps := make([]peer, 10)
	for i := range ps {
		ps[i] = lossy(0.05, honest)
	}
	ps[9] = last
	return ps
}

func TestWithholdersAreIsolated(t *testing.T) {
	for name, p := range map[string]peer{
		"all":      withholds(1),
		"a tenth":  withholds(0.1),
		"stale":    func(_ *rand.Rand, _ time.Time, t *Task) Verdict { return [...]Verdict{Stale, Sound, Stale}[t.Step] },
		"obliging": func(_ *rand.Rand, _ time.Time, t *Task) Verdict { return [...]Verdict{Missing, Sound, Sound}[t.Step] },
		"refusing": func(_ *rand.Rand, _ time.Time, t *Task) Verdict {
			return [...]Verdict{Missing, Refused, Missing}[t.Step]
		},
		"unsound": func(*rand.Rand, time.Time, *Task) Verdict { return Unsound },
		"denying": func(*rand.Rand, time.Time, *Task) Verdict { return Denied },
		"denies a part": func(r *rand.Rand, _ time.Time, _ *Task) Verdict {
			if r.IntN(5) == 0 {
				return Denied
			}
			return Sound
		},
		"silent": func(*rand.Rand, time.Time, *Task) Verdict { return Unanswered },
		"picks what others showed": func(_ *rand.Rand, _ time.Time, t *Task) Verdict {
			if !t.Subject.Signed && t.Step != Hand {
				return Missing
			}
			return Sound
		},
	} {
		t.Run(name, func(t *testing.T) {
			worst := time.Duration(0)
			for seed := range seeds(100) {
				_, found := run(seed, 10*time.Minute, nine(lossy(0.05, p)), true)
				at, ok := found[id(9)]
				if !ok || len(found) != 1 {
					t.Fatalf("seed %d: isolated %v", seed, found)
				}
				worst = max(worst, at)
			}
			t.Logf("isolated after %v at most", worst.Round(time.Second))
		})
	}
}

func TestHonestStay(t *testing.T) {
	for name, p := range map[string]peer{
		"under a fifth of loss": lossy(0.2, honest),
		"busy":                  func(*rand.Rand, time.Time, *Task) Verdict { return Busy },
		// A record that only one, perhaps its own liar, has shown: it takes what it is handed, and has it then.
		"framed": func(_ *rand.Rand, _ time.Time, t *Task) Verdict {
			if t.Step == Ask && !t.Subject.Signed {
				return Missing
			}
			return Sound
		},
		// Its owner replaces what was handed over at once by a newer one that runs out before the question.
		"outdated by the owner": func(_ *rand.Rand, _ time.Time, t *Task) Verdict {
			switch {
			case t.Subject.Signed:
				return Sound
			case t.Step == Hand && t.denied:
				return Newer
			case t.Step == Hand:
				return Sound
			}
			return Missing
		},
		"cut off with the operator": func(_ *rand.Rand, now time.Time, _ *Task) Verdict {
			if d := now.Sub(start); d > 5*time.Minute && d < 15*time.Minute {
				return Unanswered
			}
			return Sound
		},
	} {
		t.Run(name, func(t *testing.T) {
			ps := make([]peer, 10)
			for i := range ps {
				ps[i] = p
			}
			for seed := range seeds(100) {
				if a, found := run(seed, time.Hour, ps, true); len(found) > 0 {
					t.Fatalf("seed %d: isolated %v: %v", seed, found, a.Score(start.Add(time.Hour), id(0)))
				}
			}
		})
	}
}

// TestSilentAndDead: who does not answer signs of life either is the watch's affair.
func TestSilentAndDead(t *testing.T) {
	if _, found := run(1, time.Hour, nine(func(*rand.Rand, time.Time, *Task) Verdict { return Unanswered }), false); len(found) > 0 {
		t.Errorf("isolated %v", found)
	}
}

// TestReleasedIsForgiven: a person's release wipes the slate, and what is done afterwards counts anew.
func TestReleasedIsForgiven(t *testing.T) {
	a, found := run(1, 10*time.Minute, nine(withholds(1)), true)
	if len(found) != 1 {
		t.Fatal(found)
	}
	now := start.Add(10 * time.Minute)
	a.SetMembers(now, []Member{{ID: id(9), Alive: true}})
	if s := a.Score(now, id(9)); s.Points != 0 || len(a.Findings(now)) != 0 {
		t.Errorf("score %+v", s)
	}
}

// TestManyAreAskedLessOften: the operator's load stays bounded, however many there are.
func TestManyAreAskedLessOften(t *testing.T) {
	ps, d := make([]peer, 2000), 10*time.Minute
	if testing.Short() {
		ps, d = ps[:700], 2*time.Minute // still more than may be asked as often as each should be
	}
	asked := 0
	for i := range ps {
		ps[i] = func(*rand.Rand, time.Time, *Task) Verdict { asked++; return Sound }
	}
	run(1, d, ps, true)
	// The first question of each comes within askEvery; after that the rate holds.
	if most := len(ps) + int(d.Seconds())*maxRate*4/3; asked > most {
		t.Errorf("%d questions in %v, at most %d", asked, d, most)
	}
}
