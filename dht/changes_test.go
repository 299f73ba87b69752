package dht_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// A reader is told what has changed since its map. From a member that never heard of a withdrawal it cannot make the new map, and
// asks for the whole.
func TestMapByChanges(t *testing.T) {
	f := newFabric(t)
	x, y, z := f.world.Node(100, "x"), f.world.Node(101, "y"), f.world.Node(102, "z")
	m1, r1, h1 := f.world.Map(1, x, y, z)
	// Epoch 2 takes z out and leaves the others' records as they are.
	hv, err := partition.Head(2, r1[:2])
	if err != nil {
		t.Fatal(err)
	}
	h2 := f.world.Static(protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(f.world.Trust.Root()), Sequence: 2}, hv)
	gone := f.world.Static(protocol.Record{Table: protocol.TableSuperNode, Tombstone: true, Owner: z.ID, Sequence: 2}, protocol.SuperNodeValue{MapEpoch: 2})
	for name, records := range map[string][][]byte{
		"was there":       append(slices.Clone(r1), h1, gone, h2),
		"came afterwards": append(slices.Clone(r1[:2]), h2),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f.began = time.Now()
				var all []*member
				for _, n := range []*storetest.Node{x, y} {
					m := f.serve(n, dht.Config{Store: memstore.New()})
					if _, err := m.server.Apply(t.Context(), start, records); err != nil {
						t.Fatal(err)
					}
					m.server.SetReady(true)
					all = append(all, m)
				}
				if got := all[0].server.Map(); got == nil || got.Epoch() != 2 || len(got.Members()) != 2 {
					t.Fatalf("served map %+v", got)
				}
				c := f.client(f.world.Node(103, "reader"), m1)
				defer c.Close()
				got, err := c.RefreshMap(t.Context())
				if err != nil || got.Epoch() != 2 || len(got.Members()) != 2 {
					t.Errorf("map %+v: %v", got, err)
				}
				_, b := f.say(f.world.Node(103, "reader"), all[0], protocol.GetSuperNodes{Epoch: 1})
				l, err := protocol.ParseRecordList(b)
				want := 1
				if name == "was there" {
					want = 2 // the withdrawal
				}
				if err != nil || len(l.Records) != want {
					t.Errorf("%d records told, want %d: %v", len(l.Records), want, err)
				}
			})
		})
	}
}

// A map may be larger than any other list: its head, which an operator has signed, says how large.
func TestLargeMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		x := f.world.Node(100, "x")
		first, _, _ := f.world.Map(1, x)
		nodes := []*storetest.Node{x}
		for i := range 1500 {
			nodes = append(nodes, f.world.Node(protocol.Domain(1000+i), fmt.Sprint("s", i)))
		}
		second, records, head := f.world.Map(2, nodes...)
		m := f.serve(x, dht.Config{Store: memstore.New()})
		if _, err := m.server.Apply(t.Context(), start, append(records, head)); err != nil {
			t.Fatal(err)
		}
		if got := m.server.Map(); got == nil || got.Epoch() != 2 {
			t.Fatal("the server has no map")
		}
		m.server.SetReady(true)
		c := f.client(f.world.Node(103, "reader"), first)
		defer c.Close()
		if got, err := c.RefreshMap(t.Context()); err != nil {
			t.Error(err)
		} else if got.Epoch() != 2 || len(got.Members()) != len(second.Members()) {
			t.Errorf("epoch %d of %d members", got.Epoch(), len(got.Members()))
		}
	})
}
