package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// pair is two ends that have met. A goroutine for each carries what comes from it.
type pair struct {
	relay  *Relay
	ends   [2]*guest
	done   chan struct{} // closed with the pair; nil where no rate has to be waited for
	idle   *time.Timer
	broken atomic.Bool // and counted by its first reason

	mu    sync.Mutex
	moved [2]int64
	seen  [2]int64 // moved when idleness was last looked at
	ended int      // directions that have ended in order
	over  bool
}

// newPair starts to carry what a and b send each other. The relay's lock is held.
func newPair(r *Relay, a, b *guest) {
	p := &pair{relay: r, ends: [2]*guest{a, b}}
	if len(a.party.limiters())+len(b.party.limiters()) > 0 {
		p.done = make(chan struct{})
	}
	p.mu.Lock()
	p.idle = time.AfterFunc(r.cfg.Idle, p.lookIdle)
	p.mu.Unlock()
	r.wg.Go(func() {
		p.greet()
		r.wg.Go(func() { p.carry(1) })
		p.carry(0)
	})
}

// lookIdle ends a pair in which nothing has moved.
func (p *pair) lookIdle() {
	p.mu.Lock()
	still := p.moved == p.seen
	p.seen = p.moved
	if !still && !p.over {
		p.idle.Reset(p.relay.cfg.Idle)
	}
	p.mu.Unlock()
	if still {
		p.abort(reasonIdle)
	}
}

// abort ends both connections at once, with a reset so that neither end takes it for an orderly end.
func (p *pair) abort(why reason) {
	if p.broken.CompareAndSwap(false, true) {
		p.relay.counts[why].Add(1)
	}
	for _, e := range p.ends {
		_ = e.conn.SetLinger(0)
	}
	p.finish()
}

// finish lets both ends go, once.
func (p *pair) finish() {
	p.mu.Lock()
	was := p.over
	p.over = true
	p.idle.Stop()
	if !was && p.done != nil {
		close(p.done)
	}
	p.mu.Unlock()
	for _, e := range p.ends {
		p.relay.dismiss(e)
	}
}

// greet tells both ends that they are joined, before a byte of either reaches the other. A failure shows in the copying.
func (p *pair) greet() {
	for _, e := range p.ends {
		_, _ = e.conn.Write([]byte{joined})
		p.relay.counts[reasonNone].Add(1)
	}
}

// carry carries what end i sends. The last of the two to end lets both connections go: the first still needs them.
func (p *pair) carry(i int) {
	err := p.copy(i)
	if err == nil {
		err = p.ends[1-i].conn.CloseWrite()
	}
	if err != nil {
		why := reasonReset
		if errors.Is(err, errBytes) {
			why = reasonBytes
		}
		p.abort(why)
		return
	}
	p.mu.Lock()
	p.ended++
	both := p.ended == 2
	p.mu.Unlock()
	if both {
		p.finish()
	}
}

var errBytes = errors.New("relay: bytes used up")

// count notes bytes that have come from end i and reached the other.
func (p *pair) count(i int, n int64) {
	p.mu.Lock()
	p.moved[i] += n
	p.mu.Unlock()
	p.relay.bytes.Add(n)
}
