package dht_test

import (
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

// Those who answer by the map held know none that is newer; the operator tells what has changed since.
func TestRefreshMapToAsksTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		x, y, z := f.world.Node(100, "x"), f.world.Node(101, "y"), f.world.Node(102, "z")
		m1, r1, h1 := f.world.Map(1, x, y, z)
		for _, n := range []*member{f.serve(x, dht.Config{}), f.serve(y, dht.Config{})} {
			if _, err := n.server.Apply(t.Context(), start, append(r1[:3:3], h1)); err != nil {
				t.Fatal(err)
			}
		}
		// Epoch 2 has z's record anew and the others' as they are.
		v := protocol.SuperNodeValue{
			Signing: z.Keys.Signing.Public(), Sealing: z.Keys.Sealing.Public(), From: 5, To: 9, MapEpoch: 2, FillFrom: 1,
			Addresses: []protocol.Addr{protocol.AddrOf(m1.Members()[0].Addresses[0])},
		}
		r2 := [][]byte{r1[0], r1[1], f.world.Static(protocol.Record{Table: protocol.TableSuperNode, Owner: z.ID, Sequence: 2}, v)}
		hv, err := partition.Head(2, r2)
		if err != nil {
			t.Fatal(err)
		}
		h2 := f.world.Static(protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(f.world.Trust.Root()), Sequence: 2}, hv)
		op := f.serve(f.world.OperatorNode(), dht.Config{Operator: true})
		if _, err := op.server.Apply(t.Context(), start, append(r2, h2)); err != nil || op.server.Map() == nil {
			t.Fatalf("operator's map: %v", err)
		}
		trust := protocol.NewTrust(f.world.Trust.Root())
		rec := f.world.Sign(f.world.Root.Signing, protocol.Record{
			Table: protocol.TableOperatorNode, Owner: op.node.ID, Signer: trust.RootID(), Epoch: 1, Sequence: 2, Issued: start, Expires: start.Add(time.Hour),
		}, protocol.OperatorNodeValue{
			Signing: f.world.Operator.Signing.Public(), Sealing: f.world.Operator.Sealing.Public(), Addresses: v.Addresses,
		})
		if err := trust.AddOperator(rec, f.world.Root.Signing.Public(), start); err != nil {
			t.Fatal(err)
		}
		c := f.clientWith(f.world.Node(103, "reader"), m1, trust)
		defer c.Close()
		if err := c.RefreshMapTo(t.Context(), 2); err != nil || c.Map().Epoch() != 2 {
			t.Errorf("map %d: %v", c.Map().Epoch(), err)
		}
	})
}
