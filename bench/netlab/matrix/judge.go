package matrix

import (
	"fmt"
	"time"

	"culvert/tunnel"
)

const (
	punchedWithin   = 2 * time.Second
	firstByteWithin = time.Second
	bestWithin      = 3 * time.Second
	mostOf          = 0.95
)

// Demand is one thing that the issue asks for, and whether it was so.
type Demand struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Got    string `json:"got"`
}

// tally counts runs, and which of them were as they should.
type tally struct{ good, all int }

func (t *tally) add(good bool) {
	t.all++
	if good {
		t.good++
	}
}

func (t tally) share() float64 {
	if t.all == 0 {
		return 1
	}
	return float64(t.good) / float64(t.all)
}

func (t tally) demand(name string, share float64) Demand {
	return Demand{Name: name, Passed: t.share() >= share, Got: fmt.Sprintf("%d of %d", t.good, t.all)}
}

func within(ms float64, d time.Duration) bool { return ms > 0 && ms <= float64(d.Milliseconds()) }

// Judge holds the runs against the demands.
func (r *Results) Judge() []Demand {
	var up, punched, chance, sequence, relayed, first, best, checks tally
	mapped := make(map[Kind]*tally)
	for _, m := range r.Pairs {
		hardness, hard := m.hard()
		for _, run := range m.Runs {
			got := run.Up && asGood(run.Route, m.Expected)
			up.add(run.Up)
			first.add(run.Up && within(run.FirstByteMS, firstByteWithin))
			if got && run.BestMS > 0 {
				best.add(within(run.BestMS, bestWithin))
			}
			switch {
			case hard && hardness == ByChance:
				chance.add(got)
			case hard:
				sequence.add(got)
			case m.Expected == tunnel.Punched:
				punched.add(got && within(run.BestMS, punchedWithin))
			}
			if run.Up && !hard && m.Expected != tunnel.Relayed {
				relayed.add(run.Route != tunnel.Relayed)
			}
			if k, ok := m.mapper(); ok {
				if mapped[k] == nil {
					mapped[k] = new(tally)
				}
				mapped[k].add(run.Up && run.Route == tunnel.Mapped)
			}
		}
	}
	out := []Demand{
		up.demand("every tunnel comes up", 1),
		punched.demand(fmt.Sprintf("two endpoint-independent ends are punched in %s", punchedWithin), 1),
		chance.demand("one side with ports by chance is punched in 95%", mostOf),
		sequence.demand("one side with ports in sequence is punched in 95%", mostOf),
	}
	for _, k := range Kinds() {
		if t := mapped[k]; t != nil {
			out = append(out, t.demand(fmt.Sprintf("mapped by %s alone", k), 1))
		}
	}
	out = append(out,
		relayed.demand("not relayed where something else can be", 1),
		first.demand(fmt.Sprintf("the first byte within %s in 95%%", firstByteWithin), mostOf),
		best.demand(fmt.Sprintf("the best route in use within %s", bestWithin), 1),
	)
	for _, c := range r.Netcheck {
		checks.add(c.Error == "" && c.Got == c.Expected)
	}
	return append(out, checks.demand("netcheck names the kind of site", 1))
}

// mapper is the kind that has to map a port for the pair, where only one does.
func (p Pair) mapper() (Kind, bool) {
	if p.Expect() != tunnel.Mapped {
		return "", false
	}
	switch a, b := p.User.Traits().Maps, p.Device.Traits().Maps; {
	case a && !b:
		return p.User, true
	case b && !a:
		return p.Device, true
	}
	return "", false
}

// Failed are the demands that were not met.
func (r *Results) Failed() []Demand {
	var out []Demand
	for _, d := range r.Demands {
		if !d.Passed {
			out = append(out, d)
		}
	}
	return out
}
