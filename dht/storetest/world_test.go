package storetest_test

import (
	"testing"

	"culvert/dht/storetest"
	"culvert/protocol"
)

// What the world signs is what the protocol admits.
func TestWorld(t *testing.T) {
	w := storetest.NewWorld(t)
	a, again := w.Node(7, "a"), storetest.NewWorld(t).Node(7, "a")
	if a.ID != again.ID || string(a.Record) != string(again.Record) {
		t.Error("two worlds differ")
	}
	if err := protocol.CheckOwned(storetest.Parse(t, w.Info(a, 1, storetest.Start)), a.Cert, storetest.Start); err != nil {
		t.Error(err)
	}
	if err := w.Trust.CheckStatic(storetest.Parse(t, w.Device(7, "p", 1)), storetest.Start); err != nil {
		t.Error(err)
	}
	if m, recs, _ := w.Map(3, a, w.Node(8, "b")); m.Epoch() != 3 || len(recs) != 2 {
		t.Errorf("map of epoch %d", m.Epoch())
	}
}
