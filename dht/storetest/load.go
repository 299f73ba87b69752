package storetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// load has records brought into memory, and wants the same answers before and after, be it in memory or not.
func load(t *testing.T, w *World, s Opened) {
	const n = 200
	var qs []dht.Query
	held := make(map[protocol.ID][]byte)
	for i := range n {
		d := Parse(t, w.Device(7, fmt.Sprint("load ", i), 1))
		put(t, s, d.Raw())
		held[d.Owner] = d.Raw()
		qs = append(qs, dht.Query{Table: protocol.TableEndDevice, By: dht.ByOwner, Key: d.Owner, Now: Start})
	}
	qs = append(qs, dht.Query{Table: protocol.TableEndDevice, By: dht.ByDomain, Key: protocol.NewID(7, protocol.Hash{}), Now: Start},
		dht.Query{Table: protocol.TableEndDevice, By: dht.ByOwner, Key: protocol.NewID(7, Key("nobody")), Now: Start},
		dht.Query{Table: protocol.TableEnd, By: dht.ByOwner, Now: Start})
	check := func() {
		t.Helper()
		for _, q := range qs {
			dst := make([]dht.Item, n)
			k, err := s.Select(q, dst)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range dst[:k] {
				if !bytes.Equal(held[it.Owner], it.Raw) {
					t.Fatalf("%s: other bytes", it.Owner.Short())
				}
			}
			if want := map[dht.By]int{dht.ByOwner: 1, dht.ByDomain: n}[q.By]; k != want && held[q.Key] != nil || held[q.Key] == nil && q.By == dht.ByOwner && k != 0 {
				t.Fatalf("%d found, want %d", k, want)
			}
		}
	}
	check()
	s.Load(qs, 16)
	check()
	s = s.Reopen()
	s.Load(nil, 0)
	s.Load(qs, n)
	check()
	// An owner's newer record is what is loaded from then on, and what has expired is not found.
	d := Parse(t, w.Device(7, "load 0", 2))
	put(t, s, d.Raw())
	held[d.Owner] = d.Raw()
	s.Load(qs, 1)
	check()
	late := qs[0]
	late.Now = d.Expires.Add(time.Second)
	if k, err := s.Select(late, make([]dht.Item, 1)); err != nil || k != 0 {
		t.Errorf("%d found after their time, %v", k, err)
	}
}
