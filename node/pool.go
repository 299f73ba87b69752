package node

import (
	"context"
	"sync"
	"sync/atomic"
)

// pool runs handlers that may wait for a disk, beside the socket loop: a bounded number of workers on a bounded queue. What
// does not fit is refused at once, so that the asker goes elsewhere. Workers are started when they are needed and stay until
// shrink.
type pool struct {
	tasks   *tasks
	refused atomic.Uint64

	mu      sync.Mutex
	queue   chan func() // filled and emptied under mu, while all workers are busy
	workers int
	resting []chan func() // of workers without work, the latest last; a closed one ends its worker
}

const (
	// Many workers wait in one group commit; they cost a stack each, not a core.
	poolWorkers = 128
	poolQueue   = 1024
)

func newPool(t *tasks) *pool { return &pool{tasks: t, queue: make(chan func(), poolQueue)} }

// work does f, then what comes.
func (p *pool) work(ctx context.Context, f func()) {
	more := make(chan func(), 1)
	for f != nil {
		f()
		p.mu.Lock()
		select {
		case f = <-p.queue:
			p.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			continue
		default:
		}
		p.resting = append(p.resting, more)
		p.mu.Unlock()
		select {
		case f = <-more:
		case <-ctx.Done():
			return
		}
	}
}

// try has f done or queued, or reports that there is no room.
func (p *pool) try(f func()) bool {
	if p.take(f) {
		return true
	}
	p.refused.Add(1)
	return false
}

func (p *pool) take(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.resting) - 1; last >= 0 {
		p.resting[last] <- f // it has room for one, and is no longer among those that rest
		p.resting = p.resting[:last]
		return true
	}
	if p.workers < poolWorkers {
		started := p.tasks.start(func(ctx context.Context) { p.work(ctx, f) })
		if started {
			p.workers++
		}
		return started
	}
	select {
	case p.queue <- f:
		return true
	default:
		return false
	}
}

// shrink ends the workers that have nothing to do.
func (p *pool) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, more := range p.resting {
		close(more)
	}
	p.workers -= len(p.resting)
	p.resting = nil
}
