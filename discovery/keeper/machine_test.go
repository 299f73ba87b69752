package keeper

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/protocol"
)

var start = time.UnixMilli(1_790_000_000_000)

// room is one location: agents that hear each other on the LAN, and the list that they read.
type room struct {
	now    time.Time
	agents []*agent // lowest ID first
	apart  bool     // stations may not talk to each other
	rand   *rand.Rand
}

type agent struct {
	id      protocol.ID
	m       *Machine
	act     Actions
	off     bool
	pending []answer
	asks    int
	looks   int
}

type answer struct {
	at time.Time
	e  Event
}

func newRoom(n int, seed uint64) *room {
	r := &room{now: start, rand: rand.New(rand.NewPCG(seed, 1))}
	for range n {
		var h protocol.Hash
		for i := range h {
			h[i] = byte(r.rand.Uint32())
		}
		r.agents = append(r.agents, &agent{id: protocol.NewID(7, h)})
	}
	slices.SortFunc(r.agents, func(a, b *agent) int { return a.id.Compare(b.id) })
	for _, a := range r.agents {
		a.m = New(a.id)
		r.step(a, Event{Kind: Tick})
	}
	return r
}

// list is what the mesh says: who is announced, the dead too until their records expire.
func (r *room) list() (l []protocol.ID) {
	for _, a := range r.agents {
		if a.act.List && len(l) < Most {
			l = append(l, a.id)
		}
	}
	return l
}

func (r *room) find(id protocol.ID) *agent {
	return r.agents[slices.IndexFunc(r.agents, func(a *agent) bool { return a.id == id })]
}

func (r *room) step(a *agent, e Event) {
	a.act = a.m.Step(r.now, e)
	for _, id := range a.act.Ask {
		a.asks++
		e := answer{r.now.Add(5 * time.Millisecond), Event{Kind: Answered, ID: id}}
		if r.apart || r.find(id).off {
			e = answer{r.now.Add(Answer), Event{Kind: Silent, ID: id}}
		}
		a.pending = append(a.pending, e)
	}
	if a.act.Look {
		a.looks++
		a.pending = append(a.pending, answer{r.now.Add(50 * time.Millisecond), Event{Kind: Listed}})
	}
}

// run lets time pass, event by event in 5 ms steps.
func (r *room) run(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(5 * time.Millisecond) {
		for _, a := range r.agents {
			if a.off {
				a.pending = nil
				continue
			}
			due := a.pending
			a.pending = nil
			for _, p := range due {
				if r.now.Before(p.at) {
					a.pending = append(a.pending, p)
					continue
				}
				if p.e.Kind == Listed {
					p.e.IDs = r.list()
				}
				r.step(a, p.e)
			}
			if !r.now.Before(a.act.Next) {
				r.step(a, Event{Kind: Tick})
			}
		}
	}
}

func (r *room) keepers() (l []int) {
	for i, a := range r.agents {
		if !a.off && a.act.Keep {
			l = append(l, i)
		}
	}
	return l
}

func TestTwoOfMany(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 6, 50, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRoom(n, uint64(n))
			if k := r.keepers(); len(k) != n {
				t.Fatalf("%d of %d keep before they have heard anybody", len(k), n)
			}
			r.run(2 * time.Minute)
			want := []int{0, 1}
			if got := r.keepers(); !slices.Equal(got, want[:min(n, 2)]) {
				t.Fatalf("keepers are %v", got)
			}
			listed := 0
			for _, a := range r.agents {
				if a.act.List {
					listed++
				}
			}
			if listed > Keepers+Standby {
				t.Errorf("%d of %d are announced", listed, n)
			}
			for _, a := range r.agents {
				a.asks = 0
			}
			r.run(time.Minute)
			asks := 0
			for _, a := range r.agents {
				asks += a.asks
			}
			if most := (Standby*60+n*3)*Keepers + 60; asks > most { // the second keeper watches the first
				t.Errorf("%d questions a minute on a LAN of %d, want at most %d", asks, n, most)
			}
		})
	}
}

// Somebody keeps all the time but for the seconds that it takes to notice, whoever is switched off.
func TestStandbyStepsIn(t *testing.T) {
	for seed := range uint64(30) {
		r := newRoom(40, seed)
		r.run(time.Minute)
		off := []int{int(seed % 2)}
		if seed%3 == 0 {
			off = []int{0, 1}
		}
		for _, i := range off {
			r.agents[i].off = true
		}
		r.run(5 * time.Second)
		if k := r.keepers(); len(k) < 2 {
			t.Fatalf("seed %d: five seconds after %v are gone %v keep", seed, off, k)
		}
		r.run(time.Minute)
		if k := r.keepers(); len(k) != 2 {
			t.Fatalf("seed %d: a minute later %v keep", seed, k)
		}
		for _, i := range off {
			a := r.agents[i]
			a.off, a.m = false, New(a.id)
			r.step(a, Event{Kind: Tick})
		}
		r.run(time.Minute)
		if k := r.keepers(); !slices.Equal(k, []int{0, 1}) {
			t.Fatalf("seed %d: they are back, and %v keep", seed, k)
		}
	}
}

// All who are announced are gone at once: the silent come in time, and few of them.
func TestListIsGone(t *testing.T) {
	for seed := range uint64(10) {
		r := newRoom(100, seed)
		r.run(2 * time.Minute)
		for _, a := range r.agents[:Keepers+Standby] {
			a.off = true
		}
		most := 0
		for range 45 {
			r.run(time.Second)
			most = max(most, len(r.keepers()))
		}
		if k := r.keepers(); len(k) < 2 {
			t.Fatalf("seed %d: %v keep", seed, k)
		}
		if most > 40 {
			t.Errorf("seed %d: %d of 95 came at once", seed, most)
		}
		r.run(2 * time.Minute)
		if k := r.keepers(); len(k) > 3 {
			t.Errorf("seed %d: %d still keep", seed, len(k))
		}
	}
}

// Where stations cannot talk to each other, none relies on another.
func TestStationsApart(t *testing.T) {
	r := newRoom(20, 3)
	r.apart = true
	r.run(5 * time.Minute)
	if k := r.keepers(); len(k) != 20 {
		t.Errorf("only %v keep", k)
	}
}

func TestMovedKeepsAtOnce(t *testing.T) {
	r := newRoom(10, 4)
	r.run(time.Minute)
	a := r.agents[9]
	if a.act.Keep {
		t.Fatal("the last one keeps")
	}
	if r.step(a, Event{Kind: Moved}); !a.act.Keep || !a.act.Look {
		t.Errorf("in another network it does %+v", a.act)
	}
}

// Bogus events change nothing and do not panic.
func TestStrangeEvents(t *testing.T) {
	m := New(protocol.NewID(7, protocol.Hash{9}))
	for _, e := range []Event{{Kind: Answered}, {Kind: Silent}, {Kind: EventKind(200)}, {Kind: Listed, IDs: make([]protocol.ID, 1000)}} {
		m.Step(start, e)
	}
	if len(m.lower) > 1 {
		t.Errorf("one ID stands on the list %d times", len(m.lower))
	}
}
