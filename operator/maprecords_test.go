package operator

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

func tombstones(t *testing.T, o *Operator) (n int) {
	t.Helper()
	if err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		entries, err := o.mapEntries(tx, maxMap)
		for _, r := range entries {
			if r.Tombstone {
				n++
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// However many have left the map, all that are on it are read; a map that grows beyond its limit is refused, not cut.
func TestMapIsReadWhole(t *testing.T) {
	o, _, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	n, _ := join(t, o, "acme", "n")
	if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
		t.Fatal(a)
	}
	value, err := protocol.Marshal(protocol.SuperNodeValue{MapEpoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.update(t.Context(), func(tx *sqlite.Tx) error {
		for i := range 2*mapPage + 7 {
			id := protocol.NewID(1, protocol.Hash{byte(i >> 8), byte(i)}) // before all others
			if _, err := o.sign(tx, &protocol.Record{Table: protocol.TableSuperNode, Owner: id, Tombstone: true, Value: value}, mapLife); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		records, err := o.mapRecords(tx)
		if err != nil || len(records) != 2 {
			return fmt.Errorf("%d on the map: %w", len(records), err)
		}
		if _, err := o.mapEntries(tx, 1); err == nil {
			t.Error("a map of two passes for one of one")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := o.forgetTombstones(t.Context(), 10); err != nil || tombstones(t, o) != 10 {
		t.Errorf("%d tombstones, at most 10: %v", tombstones(t, o), err)
	}
}

// A tombstone is remembered for as long as a map lives that names its owner, and the owner's sequence for ever.
func TestOldTombstonesGo(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	n, _ := join(t, o, "acme", "n")
	on := func() {
		t.Helper()
		if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
	}
	on()
	if _, err := o.withdrawn(n.ID); err != nil {
		t.Fatal(err)
	}
	before := static(t, o, protocol.TableSuperNode, n.ID)
	c.add(mapLife - time.Hour)
	o.maintain(t.Context())
	if tombstones(t, o) != 1 {
		t.Error("the tombstone is gone while maps need it")
	}
	c.add(2 * time.Hour)
	o.maintain(t.Context())
	if got := tombstones(t, o); got != 0 {
		t.Errorf("%d tombstones", got)
	}
	on()
	if r := static(t, o, protocol.TableSuperNode, n.ID); r.Tombstone || !r.Supersedes(before) {
		t.Errorf("back on the map with sequence %d, after %d", r.Sequence, before.Sequence)
	}
}
