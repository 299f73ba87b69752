package node

import (
	"context"
	"sync"
	"time"
)

// tasks owns every goroutine of a node: it starts them, tells them to stop and waits for them.
type tasks struct {
	ctx    context.Context
	cancel context.CancelFunc

	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	err    error
}

func newTasks(parent context.Context) *tasks {
	ctx, cancel := context.WithCancel(parent)
	return &tasks{ctx: ctx, cancel: cancel}
}

// start runs f until it returns; f must return soon after ctx is done. It reports whether f was started.
func (t *tasks) start(f func(ctx context.Context)) bool {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return false
	}
	t.wg.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.wg.Done()
		f(t.ctx)
	}()
	return true
}

// fail ends everything with the first error.
func (t *tasks) fail(err error) {
	t.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	t.mu.Unlock()
	t.cancel()
}

// stop ends everything and waits.
func (t *tasks) stop() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// poke wakes the loop that waits on a channel with room for one, and does nothing where it has been woken already.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// every calls f at once and then at intervals until ctx is done.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
