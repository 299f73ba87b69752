package operator

import (
	"context"
	"sync"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"

	"golang.org/x/sync/errgroup"
)

const (
	maintainPage = 200 // devices signed in one transaction
	probeWorkers = 16
	// answeredEvery bounds how often a super-node's sign of life is written down.
	answeredEvery = 10 * time.Minute
)

// maintain renews what grows old. Each step stands alone: a failing one is logged and tried again in a minute.
func (o *Operator) maintain(ctx context.Context) {
	step := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			o.log.Error("maintenance: "+what, "error", err)
		}
	}
	o.state.Lock()
	port := o.port
	o.state.Unlock()
	if port != 0 {
		step("addresses and map", o.Announce(ctx, port))
	}
	step("operator record", o.update(ctx, func(tx *sqlite.Tx) error {
		if err := o.renewChain(tx, false); err != nil {
			return err
		}
		return o.loadIdentity(tx)
	}))
	o.warnOfExpiry(ctx)
	step("device records", o.renewDevices(ctx))
	step("tokens", o.db.Update(ctx, func(tx *sqlite.Tx) error { return tx.DeleteTokens(o.now().Add(-tokenKept)) }))
}

func (o *Operator) warnOfExpiry(ctx context.Context) {
	s, err := o.Summary(ctx)
	if left := s.Expires.Sub(o.now()); err == nil && !s.RootHere && left < operatorRenew/2 {
		o.log.Warn("the operator's record runs out and only the root can renew it: bring keys/root.key back", "expires", s.Expires)
	}
}

// renewDevices signs device records anew that are past half their life, or sealed under an older key than the one in use.
func (o *Operator) renewDevices(ctx context.Context) error {
	var domains []registry.Domain
	if err := o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		domains, err = tx.Domains()
		return err
	}); err != nil {
		return err
	}
	for _, d := range domains {
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			due, err := o.dueDevices(ctx, d.Number)
			if err != nil || len(due) == 0 {
				if err != nil {
					return err
				}
				break
			}
			if err := o.update(ctx, func(tx *sqlite.Tx) error { return o.resign(tx, d, due) }); err != nil {
				return err
			}
			more = len(due) == maintainPage
		}
	}
	return nil
}

func (o *Operator) dueDevices(ctx context.Context, d protocol.Domain) (due []registry.Device, err error) {
	err = o.db.View(ctx, func(tx *sqlite.Tx) error {
		keys, err := tx.DomainKeys(d)
		if err != nil {
			return err
		}
		var epoch uint32
		for _, k := range keys {
			if !k.From.After(o.now()) {
				epoch = max(epoch, k.Epoch)
			}
		}
		due, err = tx.DevicesDue(d, epoch, o.now().Add(deviceRenew-deviceLife), maintainPage)
		return err
	})
	return due, err
}

// resign reads each device again: it may have changed since it was found due.
func (o *Operator) resign(tx *sqlite.Tx, d registry.Domain, due []registry.Device) error {
	for _, dev := range due {
		dev, err := tx.Device(dev.ID)
		if err != nil {
			return err
		}
		if dev.Removed {
			continue
		}
		if err := o.publishDevice(tx, d, &dev); err != nil {
			return err
		}
	}
	return nil
}

// probeRound asks every super-node for a sign of life. One that misses three rounds leaves the map. A round in which nobody
// of several answers says more about this machine's own network: it counts against none of them.
func (o *Operator) probeRound(ctx context.Context, mesh Mesh, now time.Time) {
	var assigned []registry.SuperNode
	if err := o.db.View(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.SuperNodes()
		for _, n := range ns {
			if n.State == registry.Assigned {
				assigned = append(assigned, n)
			}
		}
		return err
	}); err != nil {
		o.log.Error("read the super-nodes", "error", err)
		return
	}
	alive := o.probeAll(ctx, mesh, assigned)
	if ctx.Err() != nil || len(assigned) > 1 && len(alive) == 0 {
		return
	}
	gone, seen := make(map[protocol.ID]bool), make(map[protocol.ID]bool)
	o.state.Lock()
	for _, n := range assigned {
		switch {
		case alive[n.ID]:
			delete(o.missed, n.ID)
			if now.Sub(n.Answered) >= answeredEvery {
				seen[n.ID] = true
			}
		default:
			if o.missed[n.ID]++; o.missed[n.ID] >= missLimit {
				delete(o.missed, n.ID)
				gone[n.ID] = true
			}
		}
	}
	o.state.Unlock()
	if err := o.noteProbes(ctx, gone, seen, now); err != nil && ctx.Err() == nil {
		o.log.Error("note the super-nodes' answers", "error", err)
	}
}

func (o *Operator) probeAll(ctx context.Context, mesh Mesh, ns []registry.SuperNode) map[protocol.ID]bool {
	alive := make(map[protocol.ID]bool)
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(probeWorkers)
	for _, n := range ns {
		g.Go(func() error {
			if len(o.reachable(ctx, mesh, n)) > 0 {
				mu.Lock()
				defer mu.Unlock()
				alive[n.ID] = true
			}
			return nil
		})
	}
	_ = g.Wait() // the probes report by alive
	return alive
}

func (o *Operator) noteProbes(ctx context.Context, gone, seen map[protocol.ID]bool, now time.Time) error {
	if len(gone) == 0 && len(seen) == 0 {
		return nil
	}
	return o.update(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.SuperNodes()
		if err != nil {
			return err
		}
		for _, n := range ns {
			if n.State != registry.Assigned || !gone[n.ID] && !seen[n.ID] {
				continue
			}
			if gone[n.ID] {
				n.State, n.Reason = registry.Silent, "did not answer"
				if err := o.audit(tx, Actor{Name: "operator"}, "supernode.silent", n.ID.String(), n.ID.Domain(), ""); err != nil {
					return err
				}
			} else {
				n.Answered = now
			}
			if err := tx.PutSuperNode(n); err != nil {
				return err
			}
		}
		return o.rebuildMap(tx)
	})
}
