package tunnel

import (
	"context"
	"sync"
	"time"
)

// patience is a context that ends after limit. Its timer starts when somebody asks for its end: what is answered from memory,
// as almost every new connection is, costs none.
type patience struct {
	context.Context // and ends at the latest with this one
	limit           time.Duration

	once   sync.Once
	timed  context.Context
	cancel context.CancelFunc
}

// begun is the context itself, with a timer that runs.
func (p *patience) begun() context.Context {
	p.once.Do(func() { p.timed, p.cancel = context.WithTimeout(p.Context, p.limit) })
	if p.timed == nil {
		return p.Context // asked after the end
	}
	return p.timed
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.begun().Deadline() }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} { return p.begun().Done() }

// Err implements context.Context.
func (p *patience) Err() error { return p.begun().Err() }

// Value implements context.Context.
func (p *patience) Value(key any) any { return p.begun().Value(key) }

// end gives up what it holds. It belongs to whoever made it, once all others have let it go.
func (p *patience) end() {
	p.once.Do(func() {})
	if p.cancel != nil {
		p.cancel()
	}
}

// bounded has a deadline which its user keeps by himself, as a Dialer does: no timer runs for it.
type bounded struct {
	context.Context
	at time.Time
}

// Deadline implements context.Context.
func (b bounded) Deadline() (time.Time, bool) {
	if at, ok := b.Context.Deadline(); ok && at.Before(b.at) {
		return at, true
	}
	return b.at, true
}
