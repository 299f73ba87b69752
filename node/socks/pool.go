package socks

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Opener opens tunnels to registered devices.
type Opener interface {
	// Open returns when the device has answered. It must end soon after ctx does.
	Open(ctx context.Context, t Target) (Tunnel, error)
}

// Tunnel leads to one port of one device.
type Tunnel interface {
	// Carry connects conn with the device. It calls answered when the device has answered, before a byte goes either way,
	// and closes conn when the connection has ended. Where it returns without having called answered, conn is untouched.
	Carry(ctx context.Context, conn *net.TCPConn, answered func() error) error
	// Closed reports whether the tunnel was closed, by whomever.
	Closed() bool
	// Close ends the tunnel and its connections, and waits for them.
	Close()
}

var errFull = errors.New("too many tunnels in use")

// pool is the tunnels that connections share.
type pool struct {
	opener  Opener
	most    int
	timeout time.Duration
	ctx     context.Context
	wg      sync.WaitGroup

	mu   sync.Mutex
	open map[Target]*shared
}

// shared is a tunnel, or one in the making.
type shared struct {
	done   chan struct{} // closed when tunnel and err are set
	tunnel Tunnel
	err    error

	users  int       // guarded by pool.mu, like unused
	unused time.Time // since when, where there are no users
}

func (e *shared) ready() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

func newPool(ctx context.Context, o Opener, most int, timeout time.Duration) *pool {
	return &pool{opener: o, most: most, timeout: timeout, ctx: ctx, open: make(map[Target]*shared)}
}

// take is the target's tunnel for one connection more, opened if there is none. Whoever gets it owes a give.
func (p *pool) take(t Target) (*shared, error) {
	p.mu.Lock()
	e := p.open[t]
	if e != nil && e.ready() && (e.err != nil || e.tunnel.Closed()) {
		e = nil
	}
	var victim *shared
	if e == nil {
		if p.open[t] == nil && len(p.open) >= p.most {
			var ok bool
			if victim, ok = p.evictLocked(); !ok {
				p.mu.Unlock()
				return nil, errFull
			}
		}
		e = &shared{done: make(chan struct{})}
		p.open[t] = e
		p.wg.Go(func() { p.dial(t, e) })
	}
	e.users++
	p.mu.Unlock()
	if victim != nil {
		victim.tunnel.Close()
	}
	<-e.done // within the time that an opening may take, or at the end of the server
	if e.err != nil {
		p.give(e, time.Time{})
		return nil, e.err
	}
	return e, nil
}

func (p *pool) dial(t Target, e *shared) {
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	e.tunnel, e.err = p.opener.Open(ctx, t)
	close(e.done)
	if e.err != nil {
		p.mu.Lock()
		if p.open[t] == e {
			delete(p.open, t)
		}
		p.mu.Unlock()
	}
}

// give ends what take began.
func (p *pool) give(e *shared, now time.Time) {
	p.mu.Lock()
	e.users--
	e.unused = now
	p.mu.Unlock()
}

// evictLocked takes the tunnel out that has been unused for longest.
func (p *pool) evictLocked() (*shared, bool) {
	var at Target
	var oldest *shared
	for t, e := range p.open {
		if e.users == 0 && e.ready() && (oldest == nil || e.unused.Before(oldest.unused)) {
			at, oldest = t, e
		}
	}
	if oldest == nil {
		return nil, false
	}
	delete(p.open, at)
	return oldest, true
}

// sweep closes the tunnels that nobody has used since a time, and forgets those that somebody else has closed.
func (p *pool) sweep(since time.Time) {
	var over []*shared
	p.mu.Lock()
	for t, e := range p.open {
		if e.users == 0 && e.ready() && (e.tunnel.Closed() || !e.unused.After(since)) {
			delete(p.open, t)
			over = append(over, e)
		}
	}
	p.mu.Unlock()
	for _, e := range over {
		e.tunnel.Close()
	}
}

// close ends all tunnels. The pool's context must have ended, and nobody may take any more.
func (p *pool) close() {
	p.wg.Wait()
	p.mu.Lock()
	all := p.open
	p.open = make(map[Target]*shared)
	p.mu.Unlock()
	for _, e := range all {
		if e.err == nil {
			e.tunnel.Close()
		}
	}
}
