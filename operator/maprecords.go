package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

const (
	// maxMap is how many super-nodes a map may name, maxTombstones how many it remembers that have left it.
	maxMap        = 100_000
	maxTombstones = 20_000
	mapPage       = 1000
)

// mapEntries are the SuperNode records that are kept, tombstones included, in order of owner. More members than limit are an
// error: a map that lacked some would be none.
func (a *Authority) mapEntries(tx *sqlite.Tx, limit int) (out []*protocol.Record, err error) {
	var after protocol.ID
	members := 0
	for {
		rows, err := tx.Records(protocol.TableSuperNode, after, time.Time{}, mapPage)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			r, err := protocol.ParseRecord(row.Raw)
			if err != nil {
				return nil, err
			}
			if after = row.Owner; !r.Tombstone {
				members++
			}
			out = append(out, r)
		}
		if members > limit {
			return nil, fmt.Errorf("operator: there are more than %d super-nodes, which is what a map may name; admit fewer (culvert operator supernode policy approved)", limit)
		}
		if len(rows) < mapPage {
			return out, nil
		}
	}
}

// mapRecords are the SuperNode records of the present map.
func (a *Authority) mapRecords(tx *sqlite.Tx) ([][]byte, error) {
	entries, err := a.mapEntries(tx, maxMap)
	var out [][]byte
	for _, r := range entries {
		if !r.Tombstone {
			out = append(out, r.Raw())
		}
	}
	return out, err
}

// forgetTombstones ends the publishing of tombstones that no reader's map needs any more: those that have expired, as has every
// map that named their owners, and of too many those of the oldest maps. Who has an older map still fetches the whole one. The
// sequence of their owners is kept.
func (a *Authority) forgetTombstones(ctx context.Context, most int) error {
	return a.db.Update(ctx, func(tx *sqlite.Tx) error {
		entries, err := a.mapEntries(tx, maxMap)
		if err != nil {
			return err
		}
		entries = slices.DeleteFunc(entries, func(r *protocol.Record) bool { return !r.Tombstone })
		slices.SortFunc(entries, func(x, y *protocol.Record) int { return cmp.Compare(y.Issued.UnixMilli(), x.Issued.UnixMilli()) })
		for i, r := range entries {
			if i < most && r.Expires.After(a.now()) {
				continue
			}
			if err := tx.Withdraw(r.Table, r.Owner); err != nil {
				return err
			}
		}
		return nil
	})
}
