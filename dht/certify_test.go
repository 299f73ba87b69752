package dht_test

import (
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// located stores the certificates of nodes of domain 7 with these names, and that they are at a place.
func (f *fabric) located(ms []*member, at protocol.Hash, names ...string) (l []*storetest.Node) {
	f.t.Helper()
	for _, name := range names {
		n := f.world.Node(7, name)
		c := f.client(n, ms[0].server.Map())
		for _, raw := range [][]byte{n.Record, f.world.Info(n, 1, f.clock(), at)} {
			if err := c.Store(f.t.Context(), raw); err != nil {
				f.t.Fatal(err)
			}
		}
		c.Close()
		l = append(l, n)
	}
	return l
}

// A certificate that is lost on its way hides nobody from a list: who sent the list is asked once more for what is missing.
func TestLostCertificateHidesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		here := storetest.Key("here")
		owners := f.located(ms, here, "a", "b", "c")
		for _, m := range ms {
			lost := false
			m.hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
				if q, err := protocol.ParsePayload[protocol.GetNode](v.Payload); v.Command == protocol.CmdGetNode && err == nil && q.ID == owners[1].ID && !lost {
					lost = true
					return nil
				}
				return out
			}
		}
		for name, target := range map[string]dht.Target{
			"list":   {Kind: dht.FindTunnelNodes, Key: protocol.NewID(7, here)},
			"single": {Kind: dht.FindNodeInfo, Key: owners[1].ID},
		} {
			c := f.client(f.world.Node(7, "reader of a "+name), ms[0].server.Map())
			recs, err := c.Lookup(t.Context(), target)
			if want := map[string]int{"list": 3, "single": 1}[name]; err != nil || len(recs) != want {
				t.Errorf("%s: %d records of %d: %v", name, len(recs), want, err)
			}
			c.Close()
		}
	})
}

// Where a certificate never comes, the rest of the list is better than nothing.
func TestPartialListIsBetterThanNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		here := storetest.Key("here")
		hidden := f.located(ms, here, "a", "b")[1].ID
		for _, m := range ms {
			m.hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
				if q, err := protocol.ParsePayload[protocol.GetNode](v.Payload); v.Command == protocol.CmdGetNode && err == nil && q.ID == hidden {
					return nil
				}
				return out
			}
		}
		c := f.client(f.world.Node(7, "reader"), ms[0].server.Map())
		defer c.Close()
		recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindTunnelNodes, Key: protocol.NewID(7, here)})
		if err != nil || len(recs) != 1 || recs[0].Owner == hidden {
			t.Errorf("%d records: %v", len(recs), err)
		}
	})
}
