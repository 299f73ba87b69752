package punch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// row is what came of one pair of kinds under one loss.
type row struct {
	name    string
	loss    int
	seeds   int
	took    []time.Duration // of the later end, where it worked
	sent    int
	probes  int
	reasons map[string]int
}

func (r *row) add(w *world) {
	r.seeds++
	u, n := w.ends[0], w.ends[1]
	r.sent += u.m.Stats().Sent + n.m.Stats().Sent
	r.probes += u.m.Stats().Probes + n.m.Stats().Probes
	if u.found != nil && n.found != nil {
		r.took = append(r.took, u.took)
		return
	}
	if r.reasons == nil {
		r.reasons = make(map[string]int)
	}
	r.reasons[fmt.Sprint(u.err)]++
}

func (r *row) at(q float64) time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return r.took[min(int(q*float64(len(r.took))), len(r.took)-1)].Round(time.Millisecond)
}

const header = "pair                               loss   found        median     95%     most  packets  probes"

func (r *row) String() string {
	var why []string
	for s, n := range r.reasons {
		why = append(why, fmt.Sprintf("%d× %s", n, s))
	}
	slices.Sort(why)
	return fmt.Sprintf("%-34s %3d%%  %3d/%3d (%3.0f%%) %7v %7v %8v %8d %7d  %s", r.name, r.loss, len(r.took), r.seeds,
		100*r.share(), r.at(.5), r.at(.95), r.at(1), r.sent/r.seeds, r.probes/r.seeds, strings.Join(why, "; "))
}

func (r *row) share() float64 { return float64(len(r.took)) / float64(r.seeds) }

// pair runs all seeds of one pair of kinds.
func pair(t *testing.T, a, b kind, loss, seeds int) *row {
	t.Helper()
	r := &row{name: a.name + " × " + b.name, loss: loss}
	for seed := range uint64(seeds / fewer) {
		w := newWorld(seed)
		w.site(0, a, nil, float64(loss)/100)
		w.site(1, b, nil, float64(loss)/100)
		w.meet(t, seed)
		r.add(w)
		if u, n := w.ends[0], w.ends[1]; !u.over() || !n.over() {
			t.Errorf("%s, seed %d: an end has no result after 15 s", r.name, seed)
		} else if (u.found == nil) != (n.found == nil) {
			t.Errorf("%s, loss %d%%, seed %d: one end found a path and the other none: %v, %v", r.name, loss, seed, u.err, n.err)
		} else if u.found != nil {
			w.carries(t)
		}
	}
	return r
}

func isHard(k kind) bool { return k.name == random.name || k.name == sequential.name }

// TestTable meets every ordered pair of kinds under loss, and holds the results to what is promised.
func TestTable(t *testing.T) {
	t.Log(header)
	for _, a := range allKinds {
		for _, b := range allKinds {
			for _, loss := range []int{0, 10, 20} {
				seeds, hardOnes := 40, 0
				for _, k := range []kind{a, b} {
					if isHard(k) {
						hardOnes++
					}
				}
				if hardOnes == 1 && (a.name == portRestricted.name || b.name == portRestricted.name) {
					seeds = 200
				}
				r := pair(t, a, b, loss, seeds)
				t.Log(r)
				switch {
				case hardOnes == 0 && (r.share() < 1 || r.at(1) > 2*time.Second):
					t.Errorf("%s at %d%% loss: endpoint-independent pairs are to be punched in 2 s, always", r.name, loss)
				case hardOnes == 1 && r.share() < .95:
					t.Errorf("%s at %d%% loss: %.1f%% punched, 95%% promised", r.name, loss, 100*r.share())
				case hardOnes == 2 && (a.name == random.name || b.name == random.name) && len(r.took) > 0:
					t.Errorf("%s punched, which shows that the simulation is wrong", r.name)
				}
			}
		}
	}
}
