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
