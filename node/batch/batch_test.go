package batch

import (
	"context"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"culvert/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// crew is who owns the workers.
type crew struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newCrew(t *testing.T) *crew {
	c := &crew{}
	c.ctx, c.stop = context.WithCancel(t.Context())
	t.Cleanup(func() { c.stop(); c.wg.Wait() })
	return c
}

func (c *crew) start(f func(context.Context)) bool {
	if c.ctx.Err() != nil {
		return false
	}
	c.wg.Go(func() { f(c.ctx) })
	return true
}

func each(_ context.Context, l []func(), _ func()) {
	for _, f := range l {
		f()
	}
}

const (
	workers = 8
	queue   = 64
	share   = 16
)

func TestRoom(t *testing.T) {
	c := newCrew(t)
	p := New(Config[func()]{Start: c.start, Work: each, Workers: workers, Eager: workers, Batch: 1, Queue: queue, Share: share})
	release := make(chan struct{})
	var done sync.WaitGroup
	for i := range workers + share {
		done.Add(1)
		if !p.Try(7, func() { <-release; done.Done() }) {
			t.Fatalf("job %d refused, though there is room", i)
		}
	}
	if p.Try(7, func() {}) {
		t.Error("a job was taken past the domain's share")
	}
	if k := p.Refused(); k != 1 {
		t.Errorf("%d refused, one was", k)
	}
	close(release)
	done.Wait()
	for round := range 3 { // a worker that rests, none, and a new one
		ran := make(chan struct{})
		if !p.Try(7, func() { close(ran) }) {
			t.Fatalf("refused in round %d", round)
		}
		<-ran
		p.Shrink()
	}
	c.stop()
	c.wg.Wait()
	p.Shrink()
	if p.workers < 0 || p.workers > workers {
		t.Errorf("%d workers", p.workers)
	}
	if p.workers == 0 && p.Try(7, func() {}) {
		t.Error("a job was taken after the end")
	}
}

// A domain that fills what it may does not keep another waiting: they take turns, and the other finds room.
func TestTurns(t *testing.T) {
	c := newCrew(t)
	release, blocked := make(chan struct{}), make(chan struct{})
	p := New(Config[func()]{Start: c.start, Work: each, Workers: 1, Eager: 1, Batch: 4, Queue: queue, Share: share})
	p.Try(7, func() { close(blocked); <-release })
	<-blocked
	var order []protocol.Domain
	var done sync.WaitGroup
	job := func(d protocol.Domain) bool {
		done.Add(1)
		ok := p.Try(d, func() { order = append(order, d); done.Done() }) // by the one worker
		if !ok {
			done.Done()
		}
		return ok
	}
	for job(7) {
	}
	for range share / 2 {
		if !job(8) {
			t.Fatal("no room for the other domain")
		}
	}
	close(release)
	done.Wait()
	if got := slices.Index(order[share:], 8); got >= 0 || len(order) != share+share/2 {
		t.Errorf("the other domain waited for the one that floods: %v", order)
	}
	// The worker is kept busy while many domains fill all there is.
	blocked, release = make(chan struct{}), make(chan struct{})
	p.Try(7, func() { close(blocked); <-release })
	<-blocked
	taken := 0
	for d := range protocol.Domain(2 * queue) {
		if p.Try(d+100, func() {}) {
			taken++
		}
	}
	if taken != queue || len(p.waiting) != len(p.turns) {
		t.Errorf("%d taken of a queue of %d, of %d domains in %d turns", taken, queue, len(p.waiting), len(p.turns))
	}
	close(release)
}

// What comes while the one worker is busy is done together; a full batch, or one that waits, has another worker begin.
func TestTogether(t *testing.T) {
	c := newCrew(t)
	const most = 4
	batches, release := make(chan int, queue), make(chan struct{})
	waits := false
	p := New(Config[int]{Start: c.start, Workers: 3, Eager: 1, Batch: most, Queue: queue, Share: queue, Work: func(_ context.Context, l []int, wait func()) {
		batches <- len(l)
		if waits {
			wait()
			wait() // once is enough
		}
		<-release
	}})
	p.Try(1, 0)
	if n := <-batches; n != 1 {
		t.Fatalf("a batch of %d", n)
	}
	for i := range most - 1 {
		p.Try(1, i)
	}
	if p.workers != 1 {
		t.Fatalf("%d workers for less than a batch", p.workers)
	}
	p.Try(1, most)
	if n := <-batches; n != most {
		t.Fatalf("a batch of %d, %d wait", n, most)
	}
	p.mu.Lock()
	n := p.workers
	p.mu.Unlock()
	if n != 2 {
		t.Fatalf("%d workers", n)
	}
	p.Try(1, 0)
	release <- struct{}{}
	if n := <-batches; n != 1 { // by whoever is through
		t.Fatalf("a batch of %d", n)
	}
	close(release)
	c.stop()
	c.wg.Wait()

	c = newCrew(t)
	p.cfg.Start, waits, release = c.start, true, make(chan struct{})
	p.mu.Lock()
	p.workers, p.busy, p.promised, p.resting = 0, 0, 0, nil
	p.mu.Unlock()
	for range 3 { // each waits, so that another begins
		p.Try(1, 0)
		if n := <-batches; n != 1 {
			t.Fatalf("a batch of %d", n)
		}
	}
	close(release)
}

// A worker that has been called and is on its way takes a whole batch; only the next one is another's.
func TestCalledOnce(t *testing.T) {
	const most = 4
	called := 0
	p := New(Config[int]{Workers: 3, Eager: 1, Batch: most, Queue: queue, Share: queue, Start: func(func(context.Context)) bool {
		called++
		return true
	}})
	for i := range 4 * most {
		p.Try(1, i)
		if want := min(1+(i+1-most)/most, 3); i >= most && called != want || i < most && called != 1 {
			t.Errorf("%d workers called for %d", called, i+1)
		}
	}
}

func BenchmarkTry(b *testing.B) {
	ctx, stop := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	p := New(Config[*int]{
		Start: func(f func(context.Context)) bool { wg.Go(func() { f(ctx) }); return true }, Work: func(context.Context, []*int, func()) {},
		Workers: 4, Eager: 1, Batch: 64, Queue: 4096, Share: 4096,
	})
	v := new(int)
	b.ReportAllocs()
	for b.Loop() {
		p.Try(7, v)
	}
	stop()
	wg.Wait()
}
