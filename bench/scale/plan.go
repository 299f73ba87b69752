package main

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"

	"culvert/partition"
	"culvert/protocol"
)

// plan is the operator's: who is admitted, and the map in force.
type plan struct {
	p     *population
	rand  *rand.Rand
	state partition.State
	on    map[protocol.ID]bool
}

// operatorID is the operator's, which stands in where members are wanting.
var operatorID = protocol.NewID(protocol.OperatorDomain, protocol.Hash{1})

func operatorAddr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, 9}), 7700)
}

func newPlan(p *population, r *rand.Rand) *plan {
	l := &plan{p: p, rand: r, on: make(map[protocol.ID]bool)}
	l.state.Operator = partition.Candidate{ID: operatorID, Addresses: []netip.AddrPort{operatorAddr()}}
	for _, c := range p.customers {
		l.state.Load = append(l.state.Load, partition.DomainLoad{Domain: c.domain, Weight: uint64(math.Ceil(c.nodes * (1 + p.a.DevicesPerNode)))})
	}
	return l
}

// step takes in who left and who came, and makes the next map. What was being filled has been by now.
func (l *plan) step(left []protocol.ID, came []volunteer) {
	for _, id := range left {
		delete(l.on, id)
	}
	if len(left) > 0 {
		l.state.Supers = slices.DeleteFunc(l.state.Supers, func(c partition.Candidate) bool { return !l.on[c.ID] })
	}
	for _, v := range came {
		if !l.on[v.id] {
			l.on[v.id] = true
			l.state.Supers = append(l.state.Supers, partition.Candidate{ID: v.id, Addresses: []netip.AddrPort{v.addr}})
		}
	}
	l.state.Filled = make(map[protocol.ID]bool)
	for _, p := range l.state.Present {
		if p.Fill.Valid() {
			l.state.Filled[p.ID] = true
		}
	}
	l.state.Present = partition.Next(l.state, l.rand)
}

// settle makes maps until nothing changes any more, as before anybody leaves.
func (l *plan) settle() {
	for range 200 {
		before := l.state.Present
		l.step(nil, nil)
		if slices.EqualFunc(before, l.state.Present, samePlace) {
			return
		}
	}
}

func samePlace(a, b partition.Placement) bool {
	return a.ID == b.ID && a.Range == b.Range && a.Fill == b.Fill
}

// begin places those who are there at first.
func (l *plan) begin(on []volunteer) {
	l.step(nil, on)
	l.settle()
}

// missing is how many nodes' positions p keeps that o does not.
func (p *population) missing(now, before partition.Placement) float64 {
	n := 0.0
	for _, r := range union(now) {
		n += p.within(r.From, r.To)
		for _, o := range union(before) {
			if both, ok := r.Intersect(o); ok {
				n -= p.within(both.From, both.To)
			}
		}
	}
	return n
}

// union is what a member keeps, as ranges without overlap.
func union(p partition.Placement) []partition.Range {
	a, b := p.Range, p.Fill
	switch {
	case !a.Valid() && !b.Valid():
		return nil
	case !a.Valid():
		return []partition.Range{b}
	case !b.Valid():
		return []partition.Range{a}
	}
	if _, meet := a.Intersect(b); meet {
		return []partition.Range{{From: min(a.From, b.From), To: max(a.To, b.To)}}
	}
	return []partition.Range{a, b}
}
