package operator

import (
	"bytes"
	"context"
	"errors"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

// settingSigned names the operator that has signed all that it stands for. Another key, or a restored registry, signs anew:
// what a retired operator signed goes away with its record, and revocations must not.
const settingSigned = "signed"

// resignAll signs revocations and devices anew where another key did so before. Node records are renewed by their nodes, the
// map by rebuildMap.
func (o *Operator) resignAll(ctx context.Context) error {
	if !o.leads() {
		return nil
	}
	done := false
	if err := o.db.View(ctx, func(tx *sqlite.Tx) error {
		by, err := tx.Setting(settingSigned)
		done = err == nil && bytes.Equal(by, o.id[:])
		if errors.Is(err, sqlite.ErrNotFound) {
			return nil
		}
		return err
	}); err != nil || done {
		return err
	}
	for _, table := range []protocol.Table{protocol.TableRevocation, protocol.TableEndDevice} {
		var after protocol.ID
		for more := true; more; {
			err := o.update(ctx, func(tx *sqlite.Tx) error {
				rows, err := tx.Records(table, after, o.now(), maintainPage)
				for _, row := range rows {
					if err := o.resignRecord(tx, row); err != nil {
						return err
					}
					after = row.Owner
				}
				more = len(rows) == maintainPage
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return o.update(ctx, func(tx *sqlite.Tx) error { return tx.SetSetting(settingSigned, o.id[:]) })
}

func (a *Authority) resignRecord(tx *sqlite.Tx, row registry.Record) error {
	old, err := protocol.ParseRecord(row.Raw)
	if err != nil {
		return err
	}
	raw, err := a.sign(tx, &protocol.Record{
		Table: old.Table, Tombstone: old.Tombstone, Owner: old.Owner, Lookups: old.Lookups, Value: old.Value,
	}, old.Expires.Sub(a.now()))
	if err != nil || old.Table != protocol.TableRevocation {
		return err
	}
	var v protocol.RevocationValue
	if err := protocol.Unmarshal(old.Value, &v); err != nil {
		return err
	}
	return tx.ReplaceRevocation(old.Owner, v.Number, raw)
}
