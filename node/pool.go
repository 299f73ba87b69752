package node

import (
	"context"
	"sync"
	"sync/atomic"

	"culvert/protocol"
)

// pool runs handlers that may wait for a disk, beside the socket loop: a bounded number of workers on a bounded queue. What
// does not fit is refused at once, so that the asker goes elsewhere. What waits is taken from one domain after the other, and a
// domain may have a quarter of the queue: one that floods waits for itself. Workers are started when they are needed and stay
// until shrink.
type pool struct {
	tasks   *tasks
	refused atomic.Uint64

	mu      sync.Mutex
	waiting map[protocol.Domain][]func() // while all workers are busy
	turns   []protocol.Domain            // of waiting, whose turn is next first
	queued  int
	workers int
	resting []chan func() // of workers without work, the latest last; a closed one ends its worker
}

const (
	// Many workers wait in one group commit; they cost a stack each, not a core.
	poolWorkers = 128
	poolQueue   = 4096
	poolShare   = poolQueue / 4
)

func newPool(t *tasks) *pool { return &pool{tasks: t, waiting: make(map[protocol.Domain][]func())} }

// work does f, then what comes.
func (p *pool) work(ctx context.Context, f func()) {
	more := make(chan func(), 1)
	for f != nil {
		f()
		p.mu.Lock()
		if f = p.nextLocked(); f != nil {
			p.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			continue
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

// nextLocked is the oldest of the domain whose turn it is; nil where nothing waits.
func (p *pool) nextLocked() func() {
	if len(p.turns) == 0 {
		return nil
	}
	d := p.turns[0]
	l := p.waiting[d]
	f := l[0]
	p.turns = p.turns[1:]
	p.queued--
	if len(l) == 1 {
		delete(p.waiting, d)
		return f
	}
	l[0] = nil
	p.waiting[d] = l[1:]
	p.turns = append(p.turns, d)
	return f
}

// try has f done or queued, on account of a domain, or reports that there is no room.
func (p *pool) try(d protocol.Domain, f func()) bool {
	if p.take(d, f) {
		return true
	}
	p.refused.Add(1)
	return false
}

func (p *pool) take(d protocol.Domain, f func()) bool {
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
	l := p.waiting[d]
	if p.queued >= poolQueue || len(l) >= poolShare {
		return false
	}
	if len(l) == 0 {
		p.turns = append(p.turns, d)
	}
	p.waiting[d] = append(l, f)
	p.queued++
	return true
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
