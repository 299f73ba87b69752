package dht_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// A reader that has been told of a withdrawal does not believe in the record before it any more, whoever still has it.
func TestWithdrawalIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(1, dht.Config{})
		a, b := f.world.Node(7, "a"), f.world.Node(7, "b")
		before, withdrawal := f.world.Info(a, 1, start), f.world.Withdrawal(a, 2, start)
		if _, err := ms[0].server.Apply(t.Context(), start, [][]byte{a.Record, withdrawal}); err != nil {
			t.Fatal(err)
		}
		c := dht.NewClient(dht.ClientConfig{
			Caller: caller{f, b}, Self: b.ID, Trust: f.world.Trust, RootKey: f.world.Root.Signing.Public(), Now: f.clock,
		})
		defer c.Close()
		c.SetMap(ms[0].server.Map())
		target := dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}
		if _, err := c.Lookup(t.Context(), target); !errors.Is(err, dht.ErrNotFound) {
			t.Fatalf("withdrawn: %v", err)
		}
		synctest.Wait()
		ms[0].hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
			if v.Command != protocol.CmdGetNodeInfo {
				return out
			}
			return protocol.Reply(protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{before}}})
		}
		if recs, err := c.Lookup(t.Context(), target); len(recs) > 0 || !errors.Is(err, dht.ErrUnreachable) {
			t.Errorf("the record came back: %v, %v", recs, err)
		}
	})
}

// That a list holds nothing but withdrawals is one word among the many that "not found" takes.
func TestWithdrawalIsNotTheWholeList(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 3)
	n := w.Node(7, "n")
	op, _ := w.Trust.Operator(w.OpID)
	loc := storetest.Key("here")
	gone := w.Sign(n.Keys.Signing, protocol.Record{
		Table: protocol.TableNodeInfo, Tombstone: true, Owner: n.ID, Signer: n.ID, Epoch: 1, Sequence: 2,
		Issued: start, Expires: start.Add(10 * time.Minute), Lookups: []protocol.Hash{loc},
	}, nil)
	s := &sim{now: start, members: ms}
	s.answer = func(peer protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
		if peer != op.ID {
			return 0, nil
		}
		return time.Millisecond, protocol.TunnelNodes{RecordList: protocol.RecordList{Records: [][]byte{gone}}}
	}
	cfg := dht.LookupConfig{
		Target: dht.Target{Kind: dht.FindTunnelNodes, Key: protocol.NewID(7, loc)}, Members: ms, Own: 7, Rand: rand.New(rand.NewPCG(1, 1)),
		Scores: dht.NewScores(), Check: checkWith(w, n), Operators: []partition.Member{{Peer: protocol.Peer{ID: op.ID}}},
	}
	l := dht.NewLookup(cfg)
	s.run(t, l)
	if _, err := l.Result(); !errors.Is(err, dht.ErrUnreachable) {
		t.Errorf("of four that were asked one spoke: %v", err)
	}
}
