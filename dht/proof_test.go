package dht_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// prove drives a Proof for at most so long; busy runs before each question.
func (f *fleet) prove(filler *keeper, servers []*keeper, epoch uint64, most time.Duration, busy func()) (*dht.Proof, int) {
	cfg := dht.ProofConfig{Filler: protocol.Peer{ID: filler.node.ID}, Range: whole, Epoch: epoch}
	for _, s := range servers {
		cfg.Servers = append(cfg.Servers, protocol.Peer{ID: s.node.ID})
	}
	p, asks := dht.NewProof(cfg), 0
	var events []dht.Event
	for end := f.clock().Add(most); !p.Done() && f.clock().Before(end); {
		e := dht.Event{Kind: dht.EventTick}
		if len(events) > 0 {
			e, events = events[0], events[1:]
		} else if d := p.Deadline(); d.After(f.clock()) {
			f.pass(d.Sub(f.clock()))
		}
		for _, a := range p.Step(f.clock(), e) {
			asks++
			busy()
			events = append(events, f.ask(f.world.OperatorNode(), a))
		}
	}
	return p, asks
}

// Stores go on all the time, every fifth is not passed on to the filler, and yet each part agrees once.
func TestProofUnderStores(t *testing.T) {
	f := newFleet(t, 4)
	a, b, c, filler := f.order[0], f.order[1], f.order[2], f.order[3]
	m := f.layout(1, place{a, whole, none}, place{b, whole, none}, place{c, whole, none}, place{filler, none, whole})
	f.install(m, f.order...)
	for i := range max(seeds(2000), 500) {
		if _, err := a.server.Apply(t.Context(), start, [][]byte{f.world.Device(protocol.Domain(7+i%5), fmt.Sprint("d", i), 1)}); err != nil {
			t.Fatal(err)
		}
	}
	idle := func() {}
	if p, _ := f.prove(filler, f.order[:3], 1, 0, idle); p.Result() == nil {
		t.Error("proven before anything was asked")
	}
	if p, _ := f.prove(filler, f.order[:3], 1, 500*time.Millisecond, idle); p.Result() == nil {
		t.Error("proven though the filler is empty")
	}
	f.pass(time.Minute)
	n := f.world.Node(7, "n")
	r, seq := rand.New(rand.NewPCG(1, 1)), uint64(1)
	p, asks := f.prove(filler, f.order[:3], 1, 5*time.Minute, func() {
		at := f.order[r.IntN(3)]
		at.forwards(r.IntN(5) > 0)
		f.put(n, at.member, f.world.Info(n, seq, f.clock()))
		seq++
	})
	if err := p.Result(); err != nil {
		t.Fatalf("after %d questions and %d stores: %v", asks, seq, err)
	}
	t.Logf("%d questions amid %d stores", asks, seq)
}

func TestProofOfTheUnsound(t *testing.T) {
	f := newFleet(t, 3)
	a, b, filler := f.order[0], f.order[1], f.order[2]
	f.install(f.layout(1, place{a, whole, none}, place{b, whole, none}, place{filler, none, whole}), f.order...)
	if _, err := a.server.Apply(t.Context(), start, [][]byte{f.world.Device(7, "d", 1)}); err != nil {
		t.Fatal(err)
	}
	f.pass(2 * time.Minute)
	idle := func() {}
	if p, asks := f.prove(filler, []*keeper{a, b}, 1, time.Minute, idle); p.Result() != nil || asks != 9 {
		t.Errorf("equals: %v after %d questions", p.Result(), asks)
	}
	if p, _ := f.prove(filler, []*keeper{a, b}, 2, time.Minute, idle); p.Done() {
		t.Errorf("by answers of an older map: %v", p.Result())
	}
	// A server that has more keeps it from being proven for as long as it is so.
	filler.down = true
	if _, err := b.server.Apply(t.Context(), f.clock(), [][]byte{f.world.Device(7, "e", 1)}); err != nil {
		t.Fatal(err)
	}
	f.pass(2 * time.Minute)
	filler.down = false
	before := filler.plan
	filler.plan = dht.NewReplicator(filler.node.ID, time.Minute, time.Time{}, f.clock(), rand.New(rand.NewPCG(9, 9)))
	if p, _ := f.prove(filler, []*keeper{a, b}, 1, 20*time.Second, idle); p.Result() == nil {
		t.Error("proven though it lacks a record")
	}
	filler.plan = before
	f.pass(time.Minute)
	b.down = true
	if p, _ := f.prove(filler, []*keeper{a, b}, 1, time.Minute, idle); p.Result() != nil {
		t.Errorf("past a silent server: %v", p.Result())
	}
	a.down = true
	if p, _ := f.prove(filler, []*keeper{a, b}, 1, time.Minute, idle); !errors.Is(p.Result(), dht.ErrUnreachable) {
		t.Errorf("without any server: %v", p.Result())
	}
	a.down, filler.down = false, true
	if p, _ := f.prove(filler, []*keeper{a}, 1, time.Minute, idle); !p.Done() || !errors.Is(p.Result(), dht.ErrUnreachable) {
		t.Errorf("a silent filler: %v", p.Result())
	}
}
