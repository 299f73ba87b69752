package endpoint_test

import (
	"testing"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

func TestEveryFormOfTalking(t *testing.T) {
	for name, tc := range map[string]struct{ a, b bool }{
		"both sessions": {true, true}, "caller only": {true, false}, "callee only": {false, true}, "neither": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.node(endpoint.Config{Sessions: tc.a}, w.identity(7))
			b := w.node(endpoint.Config{Sessions: tc.b}, w.identity(7))
			v := a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
			if (v.Session != 0) != (tc.a && tc.b) {
				t.Errorf("session %d", v.Session)
			}
			if v.Sender != b.id() || v.Receiver != a.id() || !v.Reply {
				t.Errorf("answer %+v", v)
			}
			sent := w.sent
			a.mustAnswer(a.call(b.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
			if w.sent != sent+2 {
				t.Errorf("second call took %d datagrams", w.sent-sent)
			}
			a.mustAnswer(a.call(b.peer(), protocol.GetNode{ID: b.id()}), protocol.CmdNode)
			b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong)
			for _, n := range []*node{a, b} {
				if d := nonzero(n.e); len(d) > 1 || len(d) == 1 && d["unknown sender"] != 1 {
					t.Errorf("drops %v", d)
				}
			}
		})
	}
}
