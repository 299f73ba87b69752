package dht_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

func (f *fabric) client(n *storetest.Node, pm *partition.Map) *dht.Client {
	return f.clientWith(n, pm, f.world.Trust)
}

func (f *fabric) clientWith(n *storetest.Node, pm *partition.Map, trust *protocol.Trust) *dht.Client {
	c := dht.NewClient(dht.ClientConfig{
		Caller: caller{f, n}, Self: n.ID, Trust: trust, RootKey: f.world.Root.Signing.Public(), Store: memstore.New(),
		Seed: [2]uint64{1, 2}, Now: f.clock,
	})
	c.SetMap(pm)
	return c
}

func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		a, b := f.world.Node(7, "a"), f.world.Node(7, "b")
		ca, cb := f.client(a, ms[0].server.Map()), f.client(b, ms[0].server.Map())
		defer ca.Close()
		defer cb.Close()
		here, there := storetest.Key("here"), storetest.Key("there")
		if err := ca.Store(t.Context(), f.world.Info(a, 1, f.clock(), here)); err != nil {
			t.Fatal(err)
		}
		for _, target := range []dht.Target{
			{Kind: dht.FindNodeInfo, Key: a.ID}, {Kind: dht.FindTunnelNodes, Key: protocol.NewID(7, here)}, {Kind: dht.FindNode, Key: a.ID},
		} {
			if recs, err := cb.Lookup(t.Context(), target); err != nil || len(recs) != 1 || recs[0].Owner != a.ID {
				t.Errorf("kind %d: %v: %v", target.Kind, recs, err)
			}
		}
		if cert, err := cb.Certificate(t.Context(), a.ID); err != nil || cert.ID != a.ID {
			t.Errorf("certificate: %v", err)
		}
		if err := ca.Store(t.Context(), f.world.Info(a, 2, f.clock(), there), protocol.NewID(7, here)); err != nil {
			t.Fatal(err)
		}
		if recs, err := cb.Lookup(t.Context(), dht.Target{Kind: dht.FindTunnelNodes, Key: protocol.NewID(7, here)}); !errors.Is(err, dht.ErrNotFound) {
			t.Errorf("at the location it left: %v: %v", recs, err)
		}
		// All members roll back: this reader has seen the newer one.
		if recs, err := cb.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}); err != nil || recs[0].Sequence != 2 {
			t.Fatalf("newest: %v", err)
		}
		old := f.world.Info(a, 1, f.clock(), here)
		synctest.Wait()
		for _, m := range ms {
			m.hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
				if v.Command == protocol.CmdGetNodeInfo {
					return protocol.Reply(protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{old}}})
				}
				return out
			}
		}
		if recs, err := cb.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}); !errors.Is(err, dht.ErrUnreachable) {
			t.Errorf("rolled back: %v: %v", recs, err)
		}
		var rej *dht.RejectedError
		if err := ca.Store(t.Context(), f.world.Info(a, 1, f.clock(), here)); !errors.As(err, &rej) || rej.Held.Sequence != 2 {
			t.Errorf("an older store: %v", err)
		}
	})
}

func TestClientListsAndDeaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		a := f.world.Node(7, "a")
		c := f.client(a, ms[0].server.Map())
		defer c.Close()
		op := f.client(f.world.OperatorNode(), ms[0].server.Map())
		defer op.Close()
		for i := range 30 {
			if err := op.Store(t.Context(), f.world.Device(7, fmt.Sprint("d", i), 1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := op.Store(t.Context(), f.world.Revocation(f.world.Node(7, "gone").ID, 4, protocol.RevokedNode)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ms[1].down = true
		began := time.Now()
		recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(7, protocol.Hash{})})
		if err != nil || len(recs) != 30 {
			t.Errorf("%d devices: %v", len(recs), err)
		}
		if recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(7, storetest.Key("name d3"))}); err != nil ||
			len(recs) != 1 || !bytes.Equal(recs[0].Value, []byte("d3")) {
			t.Errorf("by name: %v: %v", recs, err)
		}
		for since, want := range []int{1, 1, 1, 1, 0} {
			recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindRevocations, Key: protocol.NewID(7, protocol.Hash{}), Since: uint64(since)})
			if err != nil || len(recs) != want {
				t.Errorf("%d revocations since %d: %v", len(recs), since, err)
			}
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("one dead member cost %v", took)
		}
		if _, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: f.world.Node(7, "none").ID}); !errors.Is(err, dht.ErrUnreachable) {
			t.Errorf("not found, with one member dead: %v", err)
		}
		synctest.Wait()
		ms[1].down = false
		if _, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: f.world.Node(7, "none").ID}); !errors.Is(err, dht.ErrNotFound) {
			t.Errorf("not found: %v", err)
		}
	})
}

func TestClientLearnsOfANewMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		a := f.world.Node(7, "a")
		c := f.client(a, ms[0].server.Map())
		defer c.Close()
		// Two of the three go; two new ones, who know everything, are in the next map.
		ms[0].down, ms[1].down = true, true
		x, y := f.serve(f.world.Node(101, "x"), dht.Config{}), f.serve(f.world.Node(102, "y"), dht.Config{})
		_, recs, head := f.world.Map(2, ms[2].node, x.node, y.node)
		for _, m := range ms[:2] {
			recs = append(recs, f.world.Static(protocol.Record{Table: protocol.TableSuperNode, Tombstone: true, Owner: m.node.ID, Sequence: 2}, nil))
		}
		for _, m := range []*member{ms[2], x, y} {
			if _, err := m.server.Apply(t.Context(), f.clock(), append(recs, head)); err != nil || m.server.Map().Epoch() != 2 {
				t.Fatalf("map: %v", err)
			}
		}
		if err := c.Store(t.Context(), f.world.Info(a, 1, f.clock())); err != nil {
			t.Errorf("store: %v", err)
		}
		if c.Map().Epoch() != 2 {
			t.Errorf("map of epoch %d", c.Map().Epoch())
		}
		if m, err := c.RefreshMap(t.Context()); err != nil || m.Epoch() != 2 {
			t.Errorf("nothing newer: %v", err)
		}
	})
}

// Whoever asks because he has just heard of a newer map is not given what was learned before that.
func TestClientAsksForTheMapAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(2, dht.Config{})
		c := f.client(f.world.Node(7, "a"), ms[0].server.Map())
		defer c.Close()
		if m, err := c.RefreshMap(t.Context()); err != nil || m.Epoch() != 1 {
			t.Fatalf("first: %v", err)
		}
		_, recs, head := f.world.Map(2, ms[0].node, ms[1].node)
		for _, m := range ms {
			if _, err := m.server.Apply(t.Context(), f.clock(), append(recs[:len(recs):len(recs)], head)); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := c.RefreshMap(t.Context()); err != nil || m.Epoch() != 2 {
			t.Errorf("the map of epoch 2 is not learned: %v, %v", m.Epoch(), err)
		}
	})
}

func TestClientClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(2, dht.Config{})
		for _, m := range ms {
			m.down = true
		}
		a := f.world.Node(7, "a")
		c := f.client(a, ms[0].server.Map())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := c.Lookup(context.Background(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}); !errors.Is(err, dht.ErrClosed) {
					t.Errorf("lookup: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if _, err := c.Lookup(context.Background(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}); !errors.Is(err, dht.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
		if err := dht.NewClient(dht.ClientConfig{Caller: caller{f, a}, Trust: protocol.NewTrust(protocol.Hash{1})}).Store(
			context.Background(), f.world.Info(a, 1, start)); !errors.Is(err, dht.ErrNoMap) {
			t.Errorf("without a map: %v", err)
		}
	})
}

func TestReplicaClonesThenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		fresh := ms[2]
		fresh.server.SetReady(false)
		for i := range 200 {
			n := f.world.Node(7, fmt.Sprint("n", i))
			raws := [][]byte{n.Record, f.world.Info(n, 1, f.clock()), f.world.Device(7, fmt.Sprint("d", i), 1)}
			if _, err := ms[i%2].server.Apply(t.Context(), f.clock(), raws); err != nil {
				t.Fatal(err)
			}
		}
		var reps []*dht.Replica
		for _, m := range ms {
			r, err := dht.StartReplica(dht.ReplicaConfig{
				Server: m.server, Store: m.store, Caller: caller{f, m.node}, Self: m.node.ID, Now: f.clock, Seed: [2]uint64{3, 4}})
			if err != nil {
				t.Fatal(err)
			}
			reps = append(reps, r)
		}
		synctest.Wait()
		if !fresh.server.Ready() {
			t.Error("not ready after its first repair")
		}
		time.Sleep(130 * time.Second) // two intervals, of the bubble's time
		if !same(ms[0], ms[1]) || !same(ms[1], fresh) || fresh.store.Counts(7).Records != 600 {
			t.Errorf("replicas differ: %d records", fresh.store.Counts(7).Records)
		}
		for _, r := range reps {
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Error(err)
			}
		}
	})
}
