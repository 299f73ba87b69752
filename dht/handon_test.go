package dht_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// Whoever meets an older answer, or none, hands the newer record on, in every kind of list; one that will not take it is left
// in peace.
func TestReadRepair(t *testing.T) {
	here := storetest.Key("here")
	at := protocol.NewID(7, here)
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		a, b, reader := f.world.Node(7, "a"), f.world.Node(7, "b"), f.world.Node(7, "reader")
		old, info, other := f.world.Info(a, 1, start, here), f.world.Info(a, 2, start, here), f.world.Info(b, 1, start, here)
		device := f.world.Device(7, "d", 1)
		for i, raws := range [][][]byte{{a.Record, old}, {a.Record, b.Record, info, other, device}, {a.Record, b.Record, info, other, device}} {
			if _, err := ms[i].server.Apply(t.Context(), start, raws); err != nil {
				t.Fatal(err)
			}
		}
		c := f.client(reader, ms[0].server.Map())
		find := func(c *dht.Client, target dht.Target) {
			t.Helper()
			if recs, err := c.Lookup(t.Context(), target); err != nil || len(recs) == 0 {
				t.Fatalf("%v: %v", recs, err)
			}
			synctest.Wait()
		}
		for range 10 { // the one behind is not always asked
			find(c, dht.Target{Kind: dht.FindTunnelNodes, Key: at})
			find(c, dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(7, protocol.Hash{})})
			f.advance(2 * time.Second)
		}
		for _, raw := range [][]byte{info, other, b.Record, device} {
			r := storetest.Parse(t, raw)
			if got, err := ms[0].store.Get(r.Table, r.Owner, f.clock()); err != nil || string(got) != string(raw) {
				t.Errorf("%s of %s was not handed on: %v", r.Table, r.Owner.Short(), err)
			}
		}
		if n := c.HandedOn(); n != 3 {
			t.Errorf("%d handed on, want 3", n)
		}
		c.Close()
		// One that says for ever that there is nothing gets each version once.
		var puts atomic.Int32
		ms[0].hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
			switch v.Command {
			case protocol.CmdPut:
				puts.Add(1)
			case protocol.CmdGetNodeInfo:
				return protocol.Reply(protocol.NodeInfo{})
			}
			return out
		}
		c = f.client(reader, ms[0].server.Map())
		defer c.Close()
		for range 200 {
			find(c, dht.Target{Kind: dht.FindNodeInfo, Key: a.ID})
		}
		if n := puts.Load(); n > 2 { // the certificate and the record
			t.Errorf("%d puts to one that withholds", n)
		}
	})
}
