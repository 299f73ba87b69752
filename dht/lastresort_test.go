package dht_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// The operator is the last to be asked, also once it has left the map and repairs with nobody; as a member it has to catch up
// like any other first.
func TestOperatorOutsideTheMapAnswers(t *testing.T) {
	f := newFabric(t)
	op, a, super := f.world.OperatorNode(), f.world.Node(7, "a"), f.world.Node(100, "super")
	m := f.serve(op, dht.Config{Operator: true})
	m.server.SetReady(false) // as its replica says, which is ready with nobody
	for epoch, c := range []struct {
		in   []*storetest.Node
		want protocol.Command
	}{{[]*storetest.Node{super, op}, protocol.CmdWrongRange}, {[]*storetest.Node{super}, protocol.CmdNode}} {
		_, recs, head := f.world.Map(uint64(epoch+1), c.in...)
		if epoch == 1 {
			recs = append(recs, f.world.Static(protocol.Record{Table: protocol.TableSuperNode, Tombstone: true, Owner: op.ID, Sequence: 9}, nil))
		}
		if _, err := m.server.Apply(t.Context(), start, append(recs, head, a.Record)); err != nil || m.server.Map().Epoch() != uint64(epoch+1) {
			t.Fatalf("map %d: %v", epoch+1, err)
		}
		if got, _ := f.say(a, m, protocol.GetNode{ID: a.ID}); got != c.want {
			t.Errorf("%d members: %s, want %s", len(c.in), got, c.want)
		}
	}
}

// What it takes outside the map is passed on to every range that the record belongs to, and not confirmed: whoever asked it by a
// map in which it was alone stores it anew.
func TestOperatorOutsideTheMapConfirmsNothing(t *testing.T) {
	f := newFabric(t)
	op, a := f.world.OperatorNode(), f.world.Node(7, "a")
	m := f.serve(op, dht.Config{Operator: true})
	super := f.serve(f.world.Node(100, "super"), dht.Config{})
	_, recs, head := f.world.Map(1, super.node)
	for _, x := range []*member{m, super} {
		if _, err := x.server.Apply(t.Context(), start, append(recs[:len(recs):len(recs)], head)); err != nil {
			t.Fatal(err)
		}
	}
	info := f.world.Info(a, 1, start, storetest.Key("here"))
	for range 2 {
		if s := f.put(a, m, info); s != int(protocol.StatusRange) {
			t.Errorf("the operator says %d", s)
		}
	}
	if _, err := super.store.Get(protocol.TableNodeInfo, a.ID, start); err != nil {
		t.Errorf("not passed on: %v", err)
	}
}

// A member that has stored by a newer map may keep the record under one key only: the store goes on with those who keep the others.
func TestStoreByAnOlderMap(t *testing.T) {
	w := storetest.NewWorld(t)
	all := supers(w, 5)
	n := w.Node(7, "n")
	here := protocol.NewID(7, storetest.Key("here"))
	s := &sim{now: start, members: all[:2], epoch: 2, placed: []dht.Placed{{Key: n.ID, Members: all[:2]}, {Key: here, Members: all[2:4]}}}
	s.answer = func(protocol.ID, protocol.Payload) (time.Duration, protocol.Payload) {
		return time.Millisecond, protocol.Stored{Map: 2}
	}
	op := dht.NewStoreOp(dht.StoreConfig{
		Record: w.Info(n, 1, start, here.Hash()), Epoch: 1, Own: 7, Rand: rand.New(rand.NewPCG(1, 1)), Scores: dht.NewScores(),
		Placed: []dht.Placed{{Key: n.ID, Members: all[:2]}, {Key: here, Members: all[:2]}},
	})
	s.run(t, op)
	if op.Err() != nil || s.refresh == 0 || !slices.Contains(s.asked, all[2].Peer.ID) || !slices.Contains(s.asked, all[3].Peer.ID) {
		t.Errorf("asked %d, %d maps: %v", len(s.asked), s.refresh, op.Err())
	}
}
