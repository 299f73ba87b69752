package operator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"

	"golang.org/x/sync/errgroup"
)

const (
	pushTimeout = 15 * time.Second
	pushWorkers = 8
	pushPage    = 256
	minBackoff  = time.Second
	maxBackoff  = 30 * time.Second
)

// passes tells waiters that the outbox has been gone through once more.
type passes struct {
	mu sync.Mutex
	ch chan struct{}
}

func (p *passes) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch == nil {
		p.ch = make(chan struct{})
	}
	return p.ch
}

func (p *passes) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch != nil {
		close(p.ch)
		p.ch = nil
	}
}

// settleWait bounds how long a change waits to be seen at the super-nodes; one that takes longer goes on by itself.
const settleWait = 2 * time.Second

// Settle waits until what was changed before has been pushed, while the operator runs: who registers a device and opens it in
// the next breath must find it.
func (a *Authority) Settle(ctx context.Context) {
	a.mu.Lock()
	running := a.locate != nil
	a.mu.Unlock()
	if !running {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for range 2 { // the pass under way may have begun before the change
		passed := a.passes.wait()
		var left int64
		err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			n, err := tx.OutboxSize(0)
			left = int64(n)
			return err
		})
		if err != nil || left == 0 {
			return
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return
		}
	}
}

// pushLoop goes through the outbox whenever something came in, and again with growing pauses while something is left.
func (o *Operator) pushLoop(ctx context.Context, mesh Mesh) {
	pause := minBackoff
	for ctx.Err() == nil {
		left := o.pushPass(ctx, mesh)
		o.passes.done()
		t := time.NewTimer(pause)
		if left > 0 {
			pause = min(2*pause, maxBackoff)
		} else {
			t.Stop()
			pause = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// pushPass publishes each record of the outbox once and says how many stayed in it.
func (o *Operator) pushPass(ctx context.Context, mesh Mesh) (left int64) {
	if !o.leads() {
		return 0
	}
	need, err := o.confirmations(ctx)
	var failed atomic.Int64
	for after := uint64(0); err == nil && ctx.Err() == nil; {
		var page []registry.Record
		if err = o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			page, err = tx.Outbox(after, pushPage)
			return err
		}); err != nil || len(page) == 0 {
			break
		}
		after = page[len(page)-1].Changed
		var g errgroup.Group
		g.SetLimit(pushWorkers)
		for _, r := range page {
			push := func() error {
				if !o.push(ctx, mesh, r, need) {
					failed.Add(1)
				}
				return nil
			}
			if r.Table.Everywhere() {
				_ = g.Wait() // in order: a map's head after its entries, revocations by number
				_ = push()
			} else {
				g.Go(push)
			}
		}
		_ = g.Wait() // push reports by counting
	}
	if err != nil && ctx.Err() == nil {
		o.log.Error("read the outbox", "error", err)
		failed.Add(1)
	}
	return failed.Load()
}

// errFewConfirmed is why a record stays in the outbox where nothing failed outright.
var errFewConfirmed = errors.New("too few super-nodes have it; they are asked again")

// confirmations is W: how many members must have a record before it leaves the outbox.
func (o *Operator) confirmations(ctx context.Context) (n int, err error) {
	err = o.db.View(ctx, func(tx *sqlite.Tx) error {
		m, err := o.mapRecords(tx)
		n = max(1, min(2, len(m)))
		return err
	})
	return n, err
}

func (o *Operator) push(ctx context.Context, mesh Mesh, r registry.Record, need int) bool {
	pctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	confirmed, err := mesh.Publish(pctx, r.Raw)
	if confirmed < need {
		if ctx.Err() == nil {
			if err == nil {
				err = errFewConfirmed
			}
			o.log.Warn("record not confirmed yet", "table", r.Table.String(), "owner", r.Owner.Short(), "confirmed", confirmed, "wanted", need, "error", err)
		}
		return false
	}
	if err := o.db.Update(ctx, func(tx *sqlite.Tx) error { return tx.Confirm(r) }); err != nil {
		if ctx.Err() == nil {
			o.log.Error("confirm a record", "error", err)
		}
		return false
	}
	if r.Table == protocol.TableMapHead {
		o.notify(ctx, mesh, r)
	}
	return true
}

func (o *Operator) notify(ctx context.Context, mesh Mesh, head registry.Record) {
	var v protocol.MapHeadValue
	r, err := protocol.ParseRecord(head.Raw)
	if err == nil {
		err = protocol.Unmarshal(r.Value, &v)
	}
	if err != nil {
		o.log.Error("read the map's head", "error", err)
		return
	}
	mesh.Notify(ctx, v.Epoch)
}
