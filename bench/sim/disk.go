package sim

import (
	"context"
	"time"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/protocol"
)

// disk is a dht.Store whose writes last only once they are synced. The machine says nothing to anybody between a write and
// its sync (host.emit), as a real store answers after its commit. A crash leaves what was synced and a part of the rest,
// from the beginning on: a journal cut off somewhere.
type disk struct {
	*memstore.Store
	h       *host
	journal []func(dht.Store)
	synced  int
	syncAt  time.Duration
}

var _ dht.Store = (*disk)(nil)

func newDisk(h *host) *disk {
	h.disk = &disk{Store: memstore.New(), h: h}
	return h.disk
}

func (d *disk) durable() bool { return d.synced == len(d.journal) }

func (d *disk) wrote(do func(dht.Store)) {
	d.journal = append(d.journal, do)
	s := d.h.s
	if d.synced < len(d.journal)-1 {
		return // goes with the sync that is due
	}
	d.syncAt = s.now + s.between(time.Millisecond, 12*time.Millisecond)
	if s.chance(0.01) {
		d.syncAt += s.between(0, 400*time.Millisecond) // the disk is busy
	}
	d.h.timer(d.syncAt-s.now, func() { d.synced = len(d.journal) })
}

func (d *disk) crash() {
	s := d.h.s
	keep := d.synced
	if lost := len(d.journal) - d.synced; lost > 0 {
		keep += s.rand.IntN(lost + 1)
	}
	d.journal = d.journal[:keep]
	d.synced = keep
	d.Store = memstore.New()
	for _, do := range d.journal {
		do(d.Store)
	}
}

// wipe is a new disk.
func (d *disk) wipe() { d.Store, d.journal, d.synced = memstore.New(), nil, 0 }

// Put implements dht.Store.
func (d *disk) Put(ctx context.Context, records []*protocol.Record) ([]dht.Result, error) {
	res, err := d.Store.Put(ctx, records)
	stored := false
	for _, r := range res {
		stored = stored || r.Outcome == dht.Stored
	}
	if stored {
		d.wrote(func(s dht.Store) { _, _ = s.Put(context.Background(), records) }) // as it went before
	}
	return res, err
}

// Expire implements dht.Store.
func (d *disk) Expire(ctx context.Context, now time.Time) (int, error) {
	n, err := d.Store.Expire(ctx, now)
	if n > 0 {
		d.wrote(func(s dht.Store) { _, _ = s.Expire(context.Background(), now) }) // as it went before
	}
	return n, err
}

// SetSetting implements dht.Store.
func (d *disk) SetSetting(ctx context.Context, name string, value []byte) error {
	d.wrote(func(s dht.Store) { _ = s.SetSetting(context.Background(), name, value) }) // as it went before
	return d.Store.SetSetting(ctx, name, value)
}
