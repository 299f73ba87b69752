package tunnel

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// renewAfter is how long a race may be without a winner before the tunnel-nodes are looked up anew, and then again after twice
// as long each time: those that were found may be gone without a word, and others may just have stepped in for them.
const renewAfter = 1500 * time.Millisecond

// renewal looks tunnel-nodes up beside a race that has not been won.
type renewal struct {
	won   atomic.Bool
	fresh chan []Target // takes one
}

// renew ends the race that runs under the returned context when there are other tunnel-nodes than it runs to, or the same with
// other super-nodes at which they are to be asked.
func (m *Manager) renew(ctx context.Context, w want, targets []Target) (context.Context, *renewal, context.CancelFunc) {
	n := &renewal{fresh: make(chan []Target, 1)}
	ctx, cancel := context.WithCancel(ctx)
	m.spawn(func() {
		for wait := renewAfter; ; wait *= 2 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if n.won.Load() {
				return
			}
			fresh, err := m.cfg.Resolver.TunnelNodes(ctx, w.device)
			if err != nil || !others(m.usable(w, fresh), targets) {
				continue
			}
			if !n.won.Load() {
				n.fresh <- fresh
				cancel()
			}
			return
		}
	})
	return ctx, n, cancel
}

// others reports whether fresh names a node that old does not, or one that is now to be asked elsewhere.
func others(fresh, old []Target) bool {
	return slices.ContainsFunc(fresh, func(t Target) bool {
		return !slices.ContainsFunc(old, func(o Target) bool {
			return o.Node.ID == t.Node.ID && slices.Equal(o.Info.Homes, t.Info.Homes) && slices.Equal(o.Info.Candidates, t.Info.Candidates)
		})
	})
}
