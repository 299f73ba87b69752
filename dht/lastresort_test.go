package dht_test

import (
	"testing"

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
