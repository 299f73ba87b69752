package operator

import (
	"context"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

const (
	maintainPage = 200 // devices signed in one transaction
)

// maintain renews what grows old. Each step stands alone: a failing one is logged and tried again in a minute.
func (o *Operator) maintain(ctx context.Context) {
	step := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			o.log.Error("maintenance: "+what, "error", err)
		}
	}
	if !o.leads() {
		return
	}
	step("what another key has signed", o.resignAll(ctx))
	o.state.Lock()
	port := o.port
	o.state.Unlock()
	if port != 0 {
		step("addresses and map", o.Announce(ctx, port))
	}
	err := o.update(ctx, func(tx *sqlite.Tx) error { return o.renewChain(tx, false) })
	if err == nil {
		err = o.db.View(ctx, o.loadIdentity) // never a record that is not kept
	}
	step("operator record", err)
	o.warnOfExpiry(ctx)
	step("device records", o.renewDevices(ctx))
	step("old tombstones of the map", o.forgetTombstones(ctx, maxTombstones))
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
