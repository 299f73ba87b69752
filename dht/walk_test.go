package dht_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// reader drives Lookup and StoreOp as a node that holds some map; signed readers meet silence where others get WrongRange.
type reader struct {
	f      *fleet
	node   *storetest.Node
	pmap   *partition.Map
	signed bool
	rand   *rand.Rand
	check  func(time.Time, *protocol.Record) error
	waited time.Duration
}

func (r *reader) drive(m stepper, key protocol.ID) {
	r.f.t.Helper()
	now := r.f.clock()
	var queue []pending
	acts := m.Step(now, dht.Event{Kind: dht.EventTick})
	for steps := 0; !m.Done(); steps++ {
		if steps > 1000 {
			r.f.t.Fatal("the machine does not end")
		}
		for _, a := range acts {
			if e, ok := r.perform(a, key); ok {
				queue = append(queue, pending{now.Add(time.Duration(1+r.rand.IntN(40)) * time.Millisecond), e})
			}
		}
		slices.SortStableFunc(queue, func(a, b pending) int { return a.at.Compare(b.at) })
		e := dht.Event{Kind: dht.EventTick}
		if len(queue) > 0 && !queue[0].at.After(m.Deadline()) {
			now, e = queue[0].at, queue[0].e
			queue = queue[1:]
		} else {
			r.waited += m.Deadline().Sub(now)
			now = m.Deadline()
		}
		acts = m.Step(now, e)
	}
}

func (r *reader) perform(a dht.Action, key protocol.ID) (dht.Event, bool) {
	if a.Kind == dht.ActAsk {
		to := r.f.servers[a.Peer.ID]
		if to == nil || to.down {
			return dht.Event{}, false
		}
		v := message(r.node, to.node, a.Payload)
		if r.signed {
			v.Session = 0
		}
		for _, o := range r.f.deliver(to, v) {
			if o.Reply {
				return dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: o.Command, Payload: o.Payload}, true
			}
		}
		return dht.Event{}, false
	}
	cfg := r.config(dht.Target{Kind: dht.FindMap, Since: r.pmap.Epoch()})
	cfg.NoRefresh, cfg.Members, cfg.Quorum = true, r.pmap.Members(), 4
	if !a.Peer.ID.IsZero() {
		cfg.Members = []partition.Member{{Peer: a.Peer}}
	}
	l := dht.NewLookup(cfg)
	if r.drive(l, protocol.ID{}); l.Map() != nil {
		r.pmap = l.Map()
	}
	e := dht.Event{Kind: dht.EventMap, Members: r.pmap.Serving(key), Epoch: r.pmap.Epoch()}
	for _, k := range a.Keys {
		e.Placed = append(e.Placed, dht.Placed{Key: k, Members: r.pmap.Serving(k)})
	}
	return e, true
}

func (r *reader) config(t dht.Target) dht.LookupConfig {
	return dht.LookupConfig{
		Target: t, Members: r.pmap.Serving(t.Key), Epoch: r.pmap.Epoch(), Own: 7, Rand: r.rand, Scores: dht.NewScores(), Check: r.check,
	}
}

func (r *reader) find(id protocol.ID) (uint64, error) {
	l := dht.NewLookup(r.config(dht.Target{Kind: dht.FindNodeInfo, Key: id}))
	r.drive(l, id)
	recs, err := l.Result()
	if err != nil {
		return 0, err
	}
	return recs[0].Sequence, nil
}

func (r *reader) store(raw []byte) error {
	rec := storetest.Parse(r.f.t, raw)
	cfg := dht.StoreConfig{Record: raw, Epoch: r.pmap.Epoch(), Own: 7, Rand: r.rand, Scores: dht.NewScores()}
	for _, k := range rec.Keys() {
		cfg.Placed = append(cfg.Placed, dht.Placed{Key: k, Members: r.pmap.Serving(k)})
	}
	s := dht.NewStoreOp(cfg)
	r.drive(s, rec.Owner)
	return s.Err()
}

// Join, split, move of a boundary, merge and leave: at every step of each hand-over, while the new map reaches the members one
// by one in any order, readers and writers who hold the old map or the new one succeed, in sessions and without, and no
// acknowledged store is lost from sight.
func TestLookupsDuringHandOver(t *testing.T) {
	for seed := range seeds(4) {
		for _, signed := range []bool{false, true} {
			walk(t, seed, signed)
		}
	}
}

func walk(t *testing.T, seed uint64, signed bool) {
	f := newFleet(t, 6)
	rnd := rand.New(rand.NewPCG(seed, 7))
	s := f.order
	var nodes []*storetest.Node
	for i := range 8 {
		nodes = append(nodes, f.world.Node(protocol.Domain(1<<29*(i+1)-5), fmt.Sprint("n", i)))
	}
	acked := make([]uint64, len(nodes))
	at := func(from, to uint64) partition.Range { return partition.Range{From: from, To: to} }
	const mid, mid2, end = uint64(1) << 63, uint64(1)<<63 + 1<<62, 1<<64 - 1
	low, high := at(0, mid-1), at(mid, end)
	low2, high2 := at(0, mid2-1), at(mid2, end)
	each := func(rng, fill partition.Range, ks ...*keeper) (l []place) {
		for _, k := range ks {
			l = append(l, place{k, rng, fill})
		}
		return l
	}
	steps := [][]place{
		each(whole, none, s[:3]...),
		append(each(whole, none, s[:3]...), each(none, whole, s[3:]...)...), // join
		each(whole, none, s...),
		append(each(low, none, s[:3]...), each(high, none, s[3:]...)...), // split
		append(each(low, at(mid, mid2-1), s[:3]...), each(high, none, s[3:]...)...),
		append(each(low2, none, s[:3]...), each(high, none, s[3:]...)...), // the boundary moves: both, then the new ones alone
		append(each(low2, none, s[:3]...), each(high2, none, s[3:]...)...),
		append(each(low2, high2, s[:3]...), each(high2, low2, s[3:]...)...),
		each(whole, none, s...), // merge
		each(whole, none, s[1], s[3], s[5]),
		append(each(whole, none, s[1], s[3], s[5]), place{s[0], none, whole}),
		each(whole, none, s[0], s[3], s[5]), // one in another's place
	}
	old := f.layout(1, steps[0]...)
	f.install(old, s...)
	f.tick()
	try := func(what string, maps ...*partition.Map) {
		t.Helper()
		for _, m := range maps {
			for i, n := range nodes {
				r := &reader{f: f, node: n, pmap: m, signed: signed, rand: rnd, check: checkWith(f.world, nodes...)}
				if rnd.IntN(3) == 0 {
					raw := f.world.Info(n, acked[i]+1, f.clock())
					if err := r.store(raw); err != nil {
						t.Fatalf("seed %d, signed %v, %s, map %d: store: %v", seed, signed, what, m.Epoch(), err)
					}
					acked[i]++
				}
				if acked[i] == 0 {
					continue
				}
				r.pmap = m
				if q, err := r.find(n.ID); err != nil || q < acked[i] {
					t.Fatalf("seed %d, signed %v, %s, map %d: found %d of %d: %v", seed, signed, what, m.Epoch(), q, acked[i], err)
				}
			}
		}
	}
	for range 5 {
		try("the beginning", old)
	}
	for i, ps := range steps[1:] {
		next := f.layout(uint64(i+2), ps...)
		for _, k := range rnd.Perm(len(s)) {
			f.install(next, s[k])
			try(fmt.Sprintf("step %d, on its way", i+1), old, next)
			if rnd.IntN(2) == 0 {
				f.tick()
			}
		}
		for filled := false; !filled; {
			f.pass(time.Second)
			filled = true
			for _, p := range ps {
				filled = filled && f.progress(p.of).Filled
			}
		}
		try(fmt.Sprintf("step %d, done", i+1), old, next)
		if rnd.IntN(3) == 0 { // also long after, when what is no longer its own has gone
			for i, n := range nodes { // announced anew, as nodes do
				f.pass(time.Minute)
				r := &reader{f: f, node: n, pmap: next, signed: signed, rand: rnd, check: checkWith(f.world, nodes...)}
				if err := r.store(f.world.Info(n, acked[i]+1, f.clock())); err != nil {
					t.Fatal(err)
				}
				acked[i]++
			}
			try(fmt.Sprintf("step %d, long after", i+1), next)
		}
		old = next
	}
}
