package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"culvert/bench/report"
)

// scope is how much is computed.
type scope struct {
	Seed    uint64    `json:"seed"`
	Sizes   []int     `json:"nodes"`
	Minutes int       `json:"churn_minutes"`
	Users   int       `json:"sampled_users"`       // of the load
	PerUser int       `json:"lookups_a_user"`      //
	Met     int       `json:"users_meeting_liars"` // for each share and manner; ten lookups each
	At      int       `json:"nodes_for_liars"`
	Shares  []float64 `json:"shares_of_liars"`
	Losses  []float64 `json:"losses"`
	MostMap int       `json:"largest_map_tried"`
}

func full() scope {
	return scope{
		Seed: 1, Sizes: []int{1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000}, Minutes: 60, Users: 200, PerUser: 100, Met: 300,
		At: 30_000, Shares: []float64{0.01, 0.05, 0.1, 0.2, 0.33, 0.5}, Losses: []float64{0, 0.01, 0.05, 0.1, 0.2, 0.3},
		MostMap: 4096,
	}
}

// minutes is for how long churn is played: a large mesh shows in some minutes what a small one shows in an hour.
func (s scope) minutes(nodes int) int {
	const many = 100_000
	if nodes > many {
		return max(1, s.Minutes/4)
	}
	return s.Minutes
}

// quick is enough to see that all parts work, and that nothing depends on more than the seed.
func quick() scope {
	return scope{
		Seed: 1, Sizes: []int{1_000, 10_000}, Minutes: 20, Users: 20, PerUser: 20, Met: 20, At: 10_000, Shares: []float64{0.1, 0.33}, Losses: []float64{0, 0.1},
		MostMap: 1024,
	}
}

// study is everything that was found.
type study struct {
	Date        time.Time      `json:"date"`
	Culvert     string         `json:"culvert"`
	Machine     report.Machine `json:"machine"`
	Scope       scope          `json:"scope"`
	Assumptions assumptions    `json:"assumptions"`
	Sizes       sizes          `json:"bytes_on_the_wire"`
	MapLimit    int            `json:"map_limit"` // entries that a reader takes in at once
	Points      []point        `json:"points"`
	Sparse      point          `json:"sparse"` // the largest size with one node in sparsely as super-node
	Fallback    []fallback     `json:"fallback"`
	Malice      []malice       `json:"malice"`
	Capacity    []capacity     `json:"capacity"`
}

// point is one size of the mesh.
type point struct {
	Nodes    int      `json:"nodes"`
	Domains  int      `json:"domains"`
	Largest  float64  `json:"largest_domain"`
	Churn    churn    `json:"churn"`
	Readings readings `json:"readings"`
	Geometry geometry `json:"geometry"`
	Loads    []loads  `json:"loads"`
	Behind   float64  `json:"behind_s"` // an absence after which more entries have changed than a reader takes in
}

// loads are those of one design.
type loads struct {
	design
	User     flows `json:"user"`
	Super    flows `json:"super_node"`
	Operator flows `json:"operator"`
	// Idle is the operator's without any lookup, Ratio what lookups make of it.
	Idle  flows   `json:"operator_without_lookups"`
	Ratio float64 `json:"operator_ratio"`
}

// fallback is what comes to the operator at one loss of datagrams, at the largest size.
type fallback struct {
	Loss     float64  `json:"loss"`
	Readings readings `json:"readings"`
	Messages float64  `json:"operator_messages_s"` // for lookups
	Ratios   ratios   `json:"operator_ratio"`
}

// ratios are the operator's messages with lookups to those without, by design.
type ratios struct {
	AsBuilt     float64 `json:"as_built"`
	Recommended float64 `json:"recommended"`
}

// source is a source of its own for each part, so that one part's size does not change another's draws.
func (s scope) source(part string, n int) *rand.Rand {
	h := s.Seed
	for _, c := range part {
		h = h*1099511628211 + uint64(c)
	}
	return rand.New(rand.NewPCG(h, uint64(n)))
}

// conduct computes everything; told hears of each step.
func conduct(sc scope, a assumptions, told func(string)) (st *study, err error) {
	st = &study{Scope: sc, Assumptions: a}
	if st.Sizes, err = measure(); err != nil {
		return nil, err
	}
	if st.MapLimit, err = mapLimit(sc.MostMap); err != nil {
		return nil, err
	}
	for i, n := range sc.Sizes {
		told(fmt.Sprintf("%d nodes", n))
		p, v, net, err := sc.mesh(a, n)
		if err != nil {
			return nil, err
		}
		net.s = st.Sizes
		st.Points = append(st.Points, net.point(p, st.MapLimit))
		st.Capacity = append(st.Capacity, capacityOf(a, n, max(1, n/a.NodesPerVolunteer), sc.source("capacity", n)))
		if i < len(sc.Sizes)-1 {
			continue
		}
		if st.Fallback, err = sc.fallbacks(a, p, v, net, told); err != nil {
			return nil, err
		}
		told(fmt.Sprintf("%d nodes, one in %d a super-node", n, sparsely))
		b := a
		b.NodesPerVolunteer = sparsely
		if p, _, net, err = sc.mesh(b, n); err != nil {
			return nil, err
		}
		net.s = st.Sizes
		st.Sparse = net.point(p, st.MapLimit)
	}
	return st, sc.malices(a, st, told)
}

// sparsely is how few nodes would serve ranges if ranges were split for their load and not for the number of volunteers.
const sparsely = 1000

// point is what one size of the mesh comes to.
func (n network) point(p *population, mapLimit int) point {
	pt := point{Nodes: p.nodes, Domains: len(p.customers), Churn: n.churn, Readings: n.readings, Geometry: n.spread}
	if pt.Behind = n.behind(mapLimit); math.IsInf(pt.Behind, 0) {
		pt.Behind = 0 // nothing has changed: JSON has no infinity
	}
	for _, c := range p.customers {
		pt.Largest = max(pt.Largest, c.nodes)
	}
	for _, n.d = range designs() {
		l := loads{design: n.d, User: n.user(), Super: n.super(), Operator: n.operator(true), Idle: n.operator(false)}
		l.Ratio = l.Operator.total().Messages / l.Idle.total().Messages
		pt.Loads = append(pt.Loads, l)
	}
	return pt
}

// mesh makes the population and the map of one size, and has sampled users read in it.
func (sc scope) mesh(a assumptions, n int) (*population, *view, network, error) {
	r := sc.source("mesh", n)
	net := network{a: a, nodes: float64(n)}
	p := newPopulation(a, n, r)
	net.churn = simulateChurn(p, sc.minutes(n), r)
	v := newView(net.churn.plan.state.Present)
	l, err := newLab(a, v, r)
	if err != nil {
		return nil, nil, net, err
	}
	l.spread(net.churn.DeadOnMap, silent)
	if net.readings, err = l.sample(p, sc.Users, sc.PerUser); err != nil {
		return nil, nil, net, err
	}
	net.spread = survey(p, v, net.readings.Asks)
	return p, v, net, nil
}

// fallbacks are lookups under more and more loss.
func (sc scope) fallbacks(a assumptions, p *population, v *view, net network, told func(string)) (out []fallback, err error) {
	for i, loss := range sc.Losses {
		told(fmt.Sprintf("loss of %g %%", 100*loss))
		a.Loss = loss
		l, err := newLab(a, v, sc.source("loss", i))
		if err != nil {
			return nil, err
		}
		l.spread(net.churn.DeadOnMap, silent)
		if net.readings, err = l.sample(p, sc.Users, sc.PerUser); err != nil {
			return nil, err
		}
		f := fallback{Loss: loss, Readings: net.readings}
		ratio := func(d design) float64 {
			net.d = d
			return net.operator(true).total().Messages / net.operator(false).total().Messages
		}
		f.Ratios = ratios{ratio(asBuilt()), ratio(recommended())}
		f.Messages = net.operator(true).of(byFallback).Messages
		out = append(out, f)
	}
	return out, nil
}

// malices are two attackers: machines of many customers, and one customer who volunteers all that he can.
func (sc scope) malices(a assumptions, st *study, told func(string)) error {
	r := sc.source("malice", 0)
	p := newPopulation(a, sc.At, r)
	many := newView(simulateChurn(p, max(1, sc.Minutes/6), r).plan.state.Present)
	for i, share := range sc.Shares {
		told(fmt.Sprintf("%g %% of the super-nodes lie", 100*share))
		r := sc.source("liars", i)
		m, err := meet(a, p, many, anyone(many, share, r), malice{Attacker: "many customers' machines", Share: share}, sc.Met, r)
		if err != nil {
			return err
		}
		st.Malice = append(st.Malice, m)
		q := newPopulation(a, sc.At, r)
		d := q.infiltrate(share, r)
		v := newView(simulateChurn(q, max(1, sc.Minutes/6), r).plan.state.Present)
		if m, err = meet(a, q, v, v.of(d), malice{Attacker: "one customer", Share: share}, sc.Met, r); err != nil {
			return err
		}
		st.Malice = append(st.Malice, m)
	}
	return nil
}
