package dht_test

import (
	"path/filepath"
	"testing"

	"culvert/dht"
	"culvert/dht/sqlite"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// With next to nothing in memory, queries for what is held belong on a worker, and are answered there all the same.
func TestCached(t *testing.T) {
	f := newFabric(t)
	for name, c := range map[string]struct {
		budget int64
		cached bool
	}{"in memory": {0, true}, "on disk": {1, false}} {
		st, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "node.db"), sqlite.Options{Budget: c.budget})
		if err != nil {
			t.Fatal(err)
		}
		node := f.world.Node(100, "super")
		m := f.serve(node, dht.Config{Store: st, Operator: true})
		a, none, loc := f.world.Node(7, "a"), f.world.Node(7, "none"), storetest.Key("l")
		for _, raw := range [][]byte{a.Record, f.world.Info(a, 1, start, loc), f.world.Device(7, "p", 1),
			f.world.Revocation(f.world.Node(7, "gone").ID, 1, protocol.RevokedNode)} {
			if s := f.put(f.world.OperatorNode(), m, raw); s != 0 {
				t.Fatalf("status %d", s)
			}
		}
		for _, p := range []protocol.Payload{
			protocol.GetNode{ID: a.ID}, protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: protocol.NewID(7, loc)},
			protocol.GetEndDevices{Key: protocol.NewID(7, protocol.Hash{})}, protocol.GetRevocations{},
		} {
			if got := m.server.Cached(message(a, node, p)); got != c.cached {
				t.Errorf("%s: %s counts as cached: %v", name, p.Command(), got)
			}
			if cmd, b := f.say(a, m, p); cmd != p.Command()+1 || len(b) < 200 {
				t.Errorf("%s: %s answered with %s, %d bytes", name, p.Command(), cmd, len(b))
			}
		}
		if !m.server.Cached(message(a, node, protocol.GetNodeInfo{ID: none.ID})) {
			t.Errorf("%s: what is not held needs the disk", name)
		}
		if m.server.Cached(message(a, node, protocol.Put{})) {
			t.Errorf("%s: a put in the socket loop", name)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
