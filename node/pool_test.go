package node

import (
	"sync"
	"testing"

	"culvert/protocol"
)

func TestPool(t *testing.T) {
	ts := newTasks(t.Context())
	p := newPool(ts)
	release := make(chan struct{})
	var done sync.WaitGroup
	for i := range poolWorkers + poolShare {
		done.Add(1)
		if !p.try(7, func() { <-release; done.Done() }) {
			t.Fatalf("job %d refused, though there is room", i)
		}
	}
	if p.try(7, func() {}) {
		t.Error("a job was taken past the domain's share")
	}
	if k := p.refused.Load(); k != 1 {
		t.Errorf("%d refused, one was", k)
	}
	close(release)
	done.Wait()
	for round := range 3 { // a worker that rests, none, and a new one
		ran := make(chan struct{})
		if !p.try(7, func() { close(ran) }) {
			t.Fatalf("refused in round %d", round)
		}
		<-ran
		p.shrink()
	}
	if err := ts.stop(); err != nil {
		t.Error(err)
	}
	p.shrink()
	if p.workers < 0 || p.workers > poolWorkers {
		t.Errorf("%d workers", p.workers)
	}
	if p.workers == 0 && p.try(7, func() {}) {
		t.Error("a job was taken after the end")
	}
}

// A domain that fills what it may does not keep another waiting: they take turns, and the other finds room.
func TestPoolTakesTurns(t *testing.T) {
	ts := newTasks(t.Context())
	p := newPool(ts)
	release := make(chan struct{})
	for range poolWorkers {
		p.try(7, func() { <-release })
	}
	const calm = 50
	taken := 0
	for p.try(7, func() {}) {
	}
	for range calm {
		if !p.try(8, func() { taken++ }) {
			t.Fatal("no room for the other domain")
		}
	}
	p.mu.Lock()
	for range 2 * calm { // as the workers do, in order
		p.nextLocked()()
	}
	p.mu.Unlock()
	if taken != calm {
		t.Errorf("of the first %d, %d of the other domain", 2*calm, taken)
	}
	close(release)
	for d := range protocol.Domain(2 * poolQueue) { // many domains fill all there is
		p.try(d+100, func() { <-ts.ctx.Done() })
	}
	if err := ts.stop(); err != nil {
		t.Error(err)
	}
	if p.queued > poolQueue || len(p.waiting) != len(p.turns) {
		t.Errorf("%d wait, of %d domains in %d turns", p.queued, len(p.waiting), len(p.turns))
	}
}
