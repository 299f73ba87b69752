package tunnel

import (
	"context"
	"slices"
	"time"
)

// rememberAfter is how long the mesh may take to answer before what is remembered of a device and its tunnel-nodes is used: a
// tunnel that needs a new way does not wait for super-nodes that are gone.
const rememberAfter = 400 * time.Millisecond

// known is what a tunnel remembers of the latest answers of the mesh.
type known struct {
	device  Device
	targets []Target
}

type fetched[T any] struct {
	v   T
	err error
}

// fetch asks in a goroutine of the manager, that ends with ctx.
func fetch[T any](ctx context.Context, m *Manager, ask func(context.Context) (T, error)) <-chan fetched[T] {
	ch := make(chan fetched[T], 1)
	if !m.spawn(func() {
		v, err := ask(ctx)
		ch <- fetched[T]{v, err}
	}) {
		ch <- fetched[T]{err: ErrClosed}
	}
	return ch
}

// hedged is what comes from ch, or what is remembered where that takes too long (stale) or fails for another reason than
// that the mesh knows better.
func hedged[T any](ctx context.Context, ch <-chan fetched[T], old T, have bool) (v T, stale bool, err error) {
	var late <-chan time.Time
	if have {
		timer := time.NewTimer(rememberAfter)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case r := <-ch:
		if r.err != nil && have && !about(r.err) {
			return old, false, nil
		}
		return r.v, false, r.err
	case <-late:
		return old, true, nil
	case <-ctx.Done():
		return v, false, ctx.Err()
	}
}

// usable leaves out the targets that cannot serve the device.
func (m *Manager) usable(w want, targets []Target) []Target {
	return slices.DeleteFunc(slices.Clone(targets), func(x Target) bool {
		n := x.Node
		return n == nil || n.ID == w.me.Node.ID || n.ID.Domain() != w.me.Node.ID.Domain() || m.cfg.Revoked(n.ID) ||
			!m.cfg.Now().Before(n.Expires) || !w.device.Value.Node.IsZero() && n.ID != w.device.Value.Node
	})
}
