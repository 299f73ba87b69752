package endpoint_test

import (
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

// TestNewOperatorShowsItself: a node that has not heard of an operator takes it in by what the root says of it, with sessions
// and without; one that the root did not admit is not answered.
func TestNewOperatorShowsItself(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		w := newWorld(t)
		show := func(by *key.Pair) endpoint.Identity {
			k := w.keys()
			v, err := protocol.Marshal(protocol.OperatorNodeValue{Signing: k.Signing.Public(), Sealing: k.Sealing.Public()})
			w.must(err)
			id := protocol.NodeID(protocol.OperatorDomain, k.Signing.Public())
			rec, err := protocol.SignRecord(&protocol.Record{
				Table: protocol.TableOperatorNode, Owner: id, Signer: protocol.NodeID(protocol.OperatorDomain, by.Signing.Public()), Epoch: 2, Sequence: 1,
				Issued: start, Expires: start.Add(time.Hour), Value: v,
			}, by.Signing)
			w.must(err)
			return endpoint.Identity{ID: id, Keys: k, Record: rec, Trust: w.trust()}
		}
		n := w.node(endpoint.Config{Sessions: sessions}, w.identity(7))
		next := w.node(endpoint.Config{Sessions: sessions}, show(w.root))
		next.mustAnswer(next.call(n.peer(), protocol.Ping{}), protocol.CmdPong)
		if len(n.ids[0].Trust.Operators()) != 2 {
			t.Error("it was not taken in")
		}
		forged := w.node(endpoint.Config{Sessions: sessions}, show(w.op))
		id := forged.call(n.peer(), protocol.Ping{})
		w.run()
		for range 20 {
			w.pass(time.Second)
		}
		if ev := forged.outcome(id); ev == nil || ev.Err == nil {
			t.Error("an operator by an operator's word alone is answered")
		}
		if len(n.ids[0].Trust.Operators()) != 2 {
			t.Error("it was taken in")
		}
	}
}
