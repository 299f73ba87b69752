package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// copySize is the buffer of a busy direction in user space, idleSize that of an idle one.
	copySize = 32 << 10
	idleSize = 1 << 10
	// spliceAfter is how much a direction must have moved before the kernel takes over, and splicePiece how much it moves
	// between two counts. One that manages less than spliceSlow in spliceTurn goes back.
	spliceAfter = 4 << 20
	splicePiece = 4 << 20
	spliceSlow  = 64 << 10
	spliceTurn  = time.Second
)

// pair is two ends that have met. Each end's own goroutine carries what comes from it.
type pair struct {
	relay  *Relay
	ends   [2]*waiter
	ctx    context.Context // ends with the pair
	cancel context.CancelFunc
	idle   *time.Timer
	broken atomic.Bool // and counted by its first reason

	mu    sync.Mutex
	moved [2]int64
	seen  [2]int64 // moved when idleness was last looked at
	ended int      // directions that have ended in order
	done  chan struct{}
	over  bool
}

func newPair(r *Relay, a, b *waiter) *pair {
	p := &pair{relay: r, ends: [2]*waiter{a, b}, done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.mu.Lock()
	p.idle = time.AfterFunc(r.cfg.Idle, p.lookIdle)
	p.mu.Unlock()
	return p
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
	p.cancel()
	for _, e := range p.ends {
		_ = e.conn.SetLinger(0)
		_ = e.conn.Close()
	}
	p.finish()
}

func (p *pair) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		p.idle.Stop()
		p.cancel()
		close(p.done)
	}
}

// greet tells both ends that they are joined, before a byte of either reaches the other. A failure shows in the copying.
func (p *pair) greet() {
	for _, e := range p.ends {
		_, _ = e.conn.Write([]byte{joined})
		p.relay.counts[reasonNone].Add(1)
	}
}

// carry carries what end i sends, until both directions are over.
func (p *pair) carry(i int) reason {
	if p == nil {
		return reasonClosed // the relay closed while this end waited
	}
	from, to := p.ends[i], p.ends[1-i]
	err := p.copy(i, from, to)
	if err == nil {
		err = to.conn.CloseWrite()
	}
	if err != nil {
		why := reasonReset
		if errors.Is(err, errBytes) {
			why = reasonBytes
		}
		p.abort(why)
	} else {
		p.mu.Lock()
		p.ended++
		both := p.ended == 2
		p.mu.Unlock()
		if both {
			p.finish()
		}
	}
	<-p.done // the other direction still needs this end's connection
	return reasonNone
}

var errBytes = errors.New("relay: bytes used up")

// count notes bytes that came from end i and reports whether more may come.
func (p *pair) count(i int, n int64) error {
	p.mu.Lock()
	p.moved[i] += n
	p.mu.Unlock()
	p.relay.bytes.Add(n)
	if !p.ends[i].party.moved(n, p.relay.cfg.Now()) {
		return errBytes
	}
	return nil
}

// copy moves end i's bytes until its orderly end.
func (p *pair) copy(i int, from, to *waiter) error {
	limits := from.party.limiters()
	var streak int64
	small := make([]byte, idleSize)
	buf := small
	defer func() { p.relay.give(buf) }()
	for {
		n, err := from.conn.Read(buf)
		if n > 0 {
			if err := p.pace(limits, n); err != nil {
				return err
			}
			if _, err := to.conn.Write(buf[:n]); err != nil {
				return err
			}
			if err := p.count(i, int64(n)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case n == len(buf) && n == idleSize:
			buf = p.relay.take()
		case n < idleSize && len(buf) > idleSize:
			p.relay.give(buf)
			buf = small
		}
		if streak += int64(n); streak < spliceAfter || len(limits) > 0 {
			continue
		}
		src, dst := p.relay.bare(from.conn), p.relay.bare(to.conn)
		if src == nil || dst == nil {
			continue
		}
		end, err := p.splice(i, src, dst)
		if end || err != nil {
			return err
		}
		streak = 0
	}
}

// splice lets the kernel move pieces as long as they come quickly. It reports whether the direction has ended.
func (p *pair) splice(i int, src, dst *net.TCPConn) (bool, error) {
	defer func() { _ = src.SetReadDeadline(time.Time{}) }()
	for {
		_ = src.SetReadDeadline(time.Now().Add(spliceTurn))
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: splicePiece})
		if cerr := p.count(i, n); cerr != nil {
			return false, cerr
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n < spliceSlow {
				return false, nil
			}
		case err != nil:
			return false, err
		case n < splicePiece:
			return true, nil
		}
	}
}

func (p *pair) pace(limits []*rate.Limiter, n int) error {
	for _, l := range limits {
		if err := l.WaitN(p.ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// bare is the TCP connection that the kernel can splice.
func (r *Relay) bare(c Conn) *net.TCPConn {
	if r.cfg.TCP != nil {
		return r.cfg.TCP(c)
	}
	t, _ := c.(*net.TCPConn)
	return t
}

func (r *Relay) take() []byte {
	if b, ok := r.bufs.Get().(*[copySize]byte); ok {
		return b[:]
	}
	return make([]byte, copySize)
}

func (r *Relay) give(b []byte) {
	if len(b) == copySize {
		r.bufs.Put((*[copySize]byte)(b))
	}
}
