// Package batch runs work that may wait for a disk beside a socket loop: a bounded number of workers on a bounded queue, each of
// which takes what has queued up and does it together, since one SELECT or one commit for many costs little more than for one.
//
// What does not fit is refused at once, so that the asker goes elsewhere. What waits is taken from one domain after the other, and a
// domain may have a share of the queue: one that floods waits for itself. Workers are started when they are needed and stay until
// Shrink.
package batch

import (
	"context"
	"sync"
	"sync/atomic"

	"culvert/protocol"
)

// Config of a Pool.
type Config[T any] struct {
	// Start starts a worker under whoever owns it, and says no once that has ended.
	Start func(func(context.Context)) bool
	// Work does a batch. It calls wait before it waits, so that another worker may take what comes meanwhile.
	Work    func(ctx context.Context, batch []T, wait func())
	Workers int // at most
	// Eager workers may be busy before something that waits alone is left to them; past that a full batch has another one begin.
	Eager int
	Batch int // what a worker takes at once
	Queue int // what may wait
	Share int // of it by one domain
}

// Pool is safe for concurrent use.
type Pool[T any] struct {
	cfg     Config[T]
	refused atomic.Uint64

	mu       sync.Mutex
	waiting  map[protocol.Domain][]T
	turns    []protocol.Domain // of waiting, whose turn is next first
	queued   int
	promised int // batches of queued, to workers that have been called and have not come so far
	workers  int
	busy     int
	resting  []chan struct{} // of workers without work, the latest last; a closed one ends its worker
}

// New makes a pool without workers.
func New[T any](cfg Config[T]) *Pool[T] {
	return &Pool[T]{cfg: cfg, waiting: make(map[protocol.Domain][]T)}
}

// Try has v done or queued, on account of a domain, or reports that there is no room.
func (p *Pool[T]) Try(d protocol.Domain, v T) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.waiting[d]
	if p.queued-p.promised >= p.cfg.Queue || len(l)-p.promised >= p.cfg.Share {
		p.refused.Add(1)
		return false
	}
	if len(l) == 0 {
		p.turns = append(p.turns, d)
	}
	p.waiting[d] = append(l, v)
	p.queued++
	if !p.callLocked() && p.workers == 0 { // the owner has ended
		clear(p.waiting)
		p.turns, p.queued = nil, 0
		p.refused.Add(1)
		return false
	}
	return true
}

// Refused is how much found no room.
func (p *Pool[T]) Refused() uint64 { return p.refused.Load() }

// callLocked calls one more worker for what waits, if it should not be left to those that are busy. One that has been called takes
// a whole batch when it comes: others would come for nothing, and in each other's way.
func (p *Pool[T]) callLocked() bool {
	n := p.queued - p.promised*p.cfg.Batch
	if n <= 0 || p.busy >= p.cfg.Eager && n < p.cfg.Batch {
		return false
	}
	if last := len(p.resting) - 1; last >= 0 {
		p.resting[last] <- struct{}{} // it has room for one, and is no longer among those that rest
		p.resting = p.resting[:last]
	} else {
		if p.workers == p.cfg.Workers || !p.cfg.Start(p.work) {
			return false
		}
		p.workers++
	}
	p.busy++
	p.promised++
	return true
}

// work is one worker.
func (p *Pool[T]) work(ctx context.Context) {
	wake, l := make(chan struct{}, 1), make([]T, 0, p.cfg.Batch)
	for {
		p.mu.Lock()
		p.promised--
		for l = p.takeLocked(l); len(l) > 0; l = p.takeLocked(l) {
			p.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			waits := false
			p.cfg.Work(ctx, l, func() { waits = p.wait(waits) })
			p.mu.Lock()
			if waits {
				p.busy++
			}
		}
		p.busy--
		p.resting = append(p.resting, wake)
		p.mu.Unlock()
		select {
		case _, more := <-wake:
			if !more {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// wait notes that a worker is no longer busy though it has not finished.
func (p *Pool[T]) wait(already bool) bool {
	if already {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.callLocked()
	return true
}

// takeLocked takes a batch into l, one from each domain in turn.
func (p *Pool[T]) takeLocked(l []T) []T {
	clear(l)
	l = l[:0]
	for len(l) < p.cfg.Batch && len(p.turns) > 0 {
		d := p.turns[0]
		w := p.waiting[d]
		l = append(l, w[0])
		p.turns = p.turns[1:]
		p.queued--
		if len(w) == 1 {
			delete(p.waiting, d)
			continue
		}
		var none T
		w[0] = none
		p.waiting[d] = w[1:]
		p.turns = append(p.turns, d)
	}
	return l
}

// Shrink ends the workers that have nothing to do.
func (p *Pool[T]) Shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wake := range p.resting {
		close(wake)
	}
	p.workers -= len(p.resting)
	p.resting = nil
}
