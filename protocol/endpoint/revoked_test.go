package endpoint_test

import (
	"bytes"
	"net/netip"
	"testing"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// Who is revoked is dropped in silence whatever it asks, but for why: it may say who it is, and that question reaches the handler.
func TestRevokedMayAskWhy(t *testing.T) {
	for name, cfg := range map[string]endpoint.Config{"sessions": on(), "signed": {}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			revoked := make(map[protocol.ID]bool)
			id := w.identity(7)
			id.Revoked = func(id protocol.ID) bool { return revoked[id] }
			super, a := w.node(cfg, id), w.node(cfg, w.identity(7))
			a.mustAnswer(a.call(super.peer(), protocol.Ping{}), protocol.CmdPong)
			revoked[a.id()] = true
			super.e.Recheck()
			super.events = nil
			for _, q := range []protocol.Payload{protocol.Ping{}, protocol.GetNodeInfo{ID: a.id()}, protocol.Put{Key: a.id()}} {
				a.call(super.peer(), q)
			}
			w.run()
			if n := super.requests(); n != 0 {
				t.Fatalf("%d requests of a revoked node", n)
			}
			a.mustAnswer(a.call(super.peer(), protocol.GetRevocations{}), protocol.CmdNodeInfo) // what the fake handler answers
			if n := super.requests(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A GetNode that somebody else sends again, from elsewhere, does not show where the peer is: what is meant for the peer goes on
// going to it.
func TestHintMovesNobody(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(endpoint.Config{}, w.identity(7)), w.node(endpoint.Config{}, w.identity(7))
	b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong)
	b.restart(endpoint.Config{}) // it has forgotten a
	var hint []byte
	w.seen = func(_, to netip.AddrPort, p []byte) bool {
		if to == a.addr && protocol.Command(p[2]) == protocol.CmdGetNode {
			hint = bytes.Clone(p)
			return false
		}
		return true
	}
	peer := b.peer()
	peer.Addr = netip.AddrPort{}
	payload, err := protocol.AppendPayload(nil, protocol.Ping{})
	w.must(err)
	w.must(a.e.Send(a.time(), a.id(), peer, protocol.CmdPing, payload, &a.out))
	w.run()
	if hint == nil {
		t.Fatal("b did not ask who that is")
	}
	thief := netip.MustParseAddrPort("203.0.113.9:9")
	a.receive(thief, hint)
	for _, p := range a.out.Packets() {
		if p.Addr == thief {
			t.Errorf("%d bytes of type %d, command %d go to the thief", len(p.Data), p.Data[0], p.Data[2])
		}
	}
	if at, _, ok := a.e.Observed(a.id(), b.id()); !ok || at != b.addr {
		t.Errorf("b is believed to be at %v", at)
	}
}
