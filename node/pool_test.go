package node

import (
	"sync"
	"testing"
)

func TestPool(t *testing.T) {
	ts := newTasks(t.Context())
	p := newPool(ts)
	release := make(chan struct{})
	var done sync.WaitGroup
	for i := range poolWorkers + poolQueue {
		done.Add(1)
		if !p.try(func() { <-release; done.Done() }) {
			t.Fatalf("job %d refused, though there is room", i)
		}
	}
	if p.try(func() {}) {
		t.Error("a job was taken past the queue")
	}
	if k := p.refused.Load(); k != 1 {
		t.Errorf("%d refused, one was", k)
	}
	close(release)
	done.Wait()
	for round := range 3 { // a worker that rests, none, and a new one
		ran := make(chan struct{})
		if !p.try(func() { close(ran) }) {
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
	if p.workers == 0 && p.try(func() {}) {
		t.Error("a job was taken after the end")
	}
}
