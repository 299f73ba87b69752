package node

import (
	"context"
	"runtime"
	"sync"

	"culvert/dht"
	"culvert/node/batch"
	"culvert/protocol"
)

const (
	// Many workers wait in one group commit; they cost a stack each, not a core.
	poolWorkers = 128
	poolQueue   = 4096
	poolShare   = poolQueue / 4

	// queryBatch is how many queries one SELECT reads for, putBatch how many Puts a worker checks before their commit: few, so that
	// some are checked while others are committed.
	queryBatch = 64
	putBatch   = 16
	// readers is as many as the store has connections for reading, one of them until a whole batch waits: two would share it, each
	// with a SELECT and a write of its own. Putters wait for commits most of the time.
	readers = 4
	putters = 32
)

// newPool runs handlers that may wait, each for itself.
func newPool(t *tasks) *batch.Pool[func()] {
	return batch.New(batch.Config[func()]{
		Start:   t.start,
		Work:    func(_ context.Context, l []func(), _ func()) { l[0]() },
		Workers: poolWorkers, Eager: poolWorkers, Batch: 1, Queue: poolQueue, Share: poolShare,
	})
}

type lane = batch.Pool[*protocol.Verified]

func newLane(t *tasks, workers, eager, most int, work func(context.Context, []*protocol.Verified, func())) *lane {
	return batch.New(batch.Config[*protocol.Verified]{
		Start: t.start, Work: work, Workers: workers, Eager: eager, Batch: most, Queue: poolQueue, Share: poolShare,
	})
}

// openLanes has queries that need the disk read together, and Puts stored together.
func (s *serving) openLanes(n *Node) {
	s.reads = newLane(n.tasks, readers, 1, queryBatch, func(_ context.Context, vs []*protocol.Verified, _ func()) { s.read(n, vs) })
	s.puts = newLane(n.tasks, putters, runtime.GOMAXPROCS(0), putBatch, func(_ context.Context, vs []*protocol.Verified, wait func()) { s.put(n, vs, wait) })
	for c := range s.routes {
		if cmd := protocol.Command(c); s.routes[c].handler != nil && dht.IsQuery(cmd) {
			s.routes[c].lane = s.reads
		}
	}
	s.routes[protocol.CmdPut].lane = s.puts
}

// answers is what a worker answers a batch of queries in.
type answers struct {
	out     writer
	scratch protocol.Scratch
}

var spare = sync.Pool{New: func() any { return new(answers) }}

// read answers queries after what they miss has been read. Nobody else holds them, and no handler of a query keeps it.
func (s *serving) read(n *Node, vs []*protocol.Verified) {
	s.server.Load(vs)
	m := spare.Get().(*answers)
	defer spare.Put(m)
	now := n.now()
	for _, v := range vs {
		v.Scratch = &m.scratch
		n.emit(now, v, s.routes[v.Command].handler(now, v), &m.out.Outbox)
		v.Recycle()
	}
	m.out.flush(n.mux)
	n.wake()
}

// put answers Puts after their commit.
func (s *serving) put(n *Node, vs []*protocol.Verified, wait func()) {
	outs := s.server.Puts(n.now(), vs, wait)
	now := n.now()
	var out writer
	for i, v := range vs {
		n.emit(now, v, outs[i], &out.Outbox)
		if out.Len() >= writeBatch {
			out.flush(n.mux)
		}
	}
	out.flush(n.mux)
	n.wake()
}

// shrink ends the workers that have nothing to do.
func (n *Node) shrink() {
	n.pool.Shrink()
	if s := n.serving.Load(); s != nil {
		s.reads.Shrink()
		s.puts.Shrink()
	}
}
