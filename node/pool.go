package node

import (
	"context"
	"sync/atomic"
)

// pool runs handlers that may wait for a disk, beside the socket loop: a bounded number of workers on a bounded queue. What
// does not fit is refused at once, so that the asker goes elsewhere.
type pool struct {
	queue   chan func()
	refused atomic.Uint64
}

const (
	// Many workers wait in one group commit; they cost a stack each, not a core.
	poolWorkers = 128
	poolQueue   = 1024
)

func newPool(t *tasks) *pool {
	p := &pool{queue: make(chan func(), poolQueue)}
	for range poolWorkers {
		t.start(p.work)
	}
	return p
}

func (p *pool) work(ctx context.Context) {
	for {
		select {
		case f := <-p.queue:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// try queues f, or reports that there is no room.
func (p *pool) try(f func()) bool {
	select {
	case p.queue <- f:
		return true
	default:
		p.refused.Add(1)
		return false
	}
}
