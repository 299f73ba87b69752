package messages

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"culvert/dht"
	pool "culvert/node/batch"
	"culvert/protocol"
)

// unlimited are limits that do not stand in a measurement's way.
var unlimited = dht.Limits{DomainRecords: 1 << 30, NodePuts: 1e9, NodeBurst: 1e9, DomainPuts: 1e9, DomainBurst: 1e9}

// lanes take what is not answered from memory, as in a node: queries are read together, Puts stored together.
type lanes struct {
	s           *server
	conn        conn
	reads, puts *pool.Pool[*protocol.Verified]
	stop        context.CancelFunc
	wg          sync.WaitGroup

	mu  sync.Mutex
	err error // of the first batch that could not be answered
}

func newLanes(s *server, conn conn) *lanes {
	ctx, stop := context.WithCancel(context.Background())
	l := &lanes{s: s, conn: conn, stop: stop}
	start := func(f func(context.Context)) bool { l.wg.Go(func() { f(ctx) }); return true }
	cfg := pool.Config[*protocol.Verified]{Start: start, Work: l.read, Workers: 4, Eager: 1, Batch: 64, Queue: 4096, Share: 4096}
	l.reads = pool.New(cfg)
	cfg.Work, cfg.Workers, cfg.Batch, cfg.Eager = l.put, 32, 16, runtime.GOMAXPROCS(0)
	l.puts = pool.New(cfg)
	return l
}

func (l *lanes) close() {
	l.stop()
	l.wg.Wait()
}

func (l *lanes) take(v *protocol.Verified) error {
	p := l.reads
	if v.Command == protocol.CmdPut {
		p = l.puts
	}
	if c := v.Clone(); !p.Try(v.Sender.Domain(), c) {
		c.Recycle()
		return fmt.Errorf("no room for %s", v.Command)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// answers is what a worker answers a batch of queries in.
type answers struct {
	out     sender
	scratch protocol.Scratch
}

var spare = sync.Pool{New: func() any { return new(answers) }}

func (l *lanes) read(_ context.Context, vs []*protocol.Verified, _ func()) {
	l.s.dht.Load(vs)
	m := spare.Get().(*answers)
	defer spare.Put(m)
	now := time.Now()
	for _, v := range vs {
		v.Scratch = &m.scratch
		l.answer(now, v, l.s.handlers[v.Command](now, v), &m.out)
		v.Recycle()
	}
	l.done(m.out.flush(l.conn))
}

func (l *lanes) put(_ context.Context, vs []*protocol.Verified, wait func()) {
	outs := l.s.dht.Puts(time.Now(), vs, wait)
	var out sender
	now := time.Now()
	for i, v := range vs {
		l.answer(now, v, outs[i], &out)
	}
	l.done(out.flush(l.conn))
}

func (l *lanes) answer(now time.Time, v *protocol.Verified, outs []protocol.Out, out *sender) {
	for _, o := range outs {
		l.done(l.s.e.Reply(now, v, o.Command, o.Payload, &out.Outbox))
	}
}

func (l *lanes) done(err error) {
	if err = endOf(err); err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}
