package dht_test

import (
	"bytes"
	"slices"
	"testing"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

func TestPassingOn(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(3, dht.Config{})
	a, loc := f.world.Node(7, "a"), storetest.Key("l")
	info := f.world.Info(a, 1, start, loc)
	if s := f.put(a, ms[0], info); s != 0 {
		t.Fatalf("status %d", s)
	}
	for i, m := range ms {
		if raw, err := m.store.Get(protocol.TableNodeInfo, a.ID, start); err != nil || !bytes.Equal(raw, info) {
			t.Errorf("member %d: %v", i, err)
		}
		if _, err := m.store.Get(protocol.TableNode, a.ID, start); err != nil {
			t.Errorf("certificate at member %d: %v", i, err)
		}
	}
	// A forwarded put ends where it arrives, and only members may forward.
	fwd := protocol.Put{Key: a.ID, Record: f.world.Info(a, 2, start), Forwarded: true}
	if out := f.deliver(ms[0], message(ms[1].node, ms[0].node, fwd)); len(out) != 1 {
		t.Errorf("forwarded again: %d messages", len(out))
	}
	if out := f.deliver(ms[0], message(a, ms[0].node, fwd)); len(out) != 0 {
		t.Error("forwarded by an ordinary node")
	}
	// The same record again is not passed on: a loop dies at once.
	if out := f.deliver(ms[0], message(a, ms[0].node, protocol.Put{Key: a.ID, Record: fwd.Record})); len(out) != 1 {
		t.Errorf("a repeat makes %d messages", len(out))
	}
	v := message(a, ms[0].node, protocol.GetNodeInfo{ID: a.ID})
	if v.Reply = true; len(f.deliver(ms[0], v)) != 0 {
		t.Error("an answer was answered")
	}
}

func TestMapArrivesInAnyOrder(t *testing.T) {
	f := newFabric(t)
	var maps []uint64
	st := memstore.New()
	nodes := []*storetest.Node{f.world.Node(100, "x"), f.world.Node(101, "y"), f.world.Node(102, "z")}
	cfg := dht.Config{Store: st, OnMap: func(m *partition.Map) { maps = append(maps, m.Epoch()) }}
	m := f.serve(nodes[0], cfg)
	op := f.world.OperatorNode()
	_, r1, h1 := f.world.Map(1, nodes...)
	for _, raw := range slices.Concat(r1[:1], [][]byte{h1}, r1[1:]) {
		if s := f.put(op, m, raw); s != 0 {
			t.Fatalf("status %d", s)
		}
	}
	// Epoch 2 is without z, whose record is withdrawn.
	_, r2, h2 := f.world.Map(2, nodes[:2]...)
	gone := f.world.Static(protocol.Record{Table: protocol.TableSuperNode, Tombstone: true, Owner: nodes[2].ID, Sequence: 2}, nil)
	for _, raw := range slices.Concat([][]byte{h2, gone}, r2) {
		f.put(op, m, raw)
	}
	if !slices.Equal(maps, []uint64{1, 2}) || len(m.server.Map().Members()) != 2 {
		t.Errorf("maps %v", maps)
	}
	f.put(op, m, h1) // an old head
	if m = f.serve(nodes[0], cfg); m.server.Map() == nil || m.server.Map().Epoch() != 2 {
		t.Error("the map is lost with a restart")
	}
	if c, b := f.say(nodes[1], m, protocol.GetSuperNodes{Epoch: 2}); c != protocol.CmdSuperNodes {
		t.Errorf("answer %s", c)
	} else if l, _ := protocol.ParseRecordList(b); len(l.Records) != 1 {
		t.Errorf("%d records for who is current", len(l.Records))
	}
}

// Who learns a map as a reader is not told what was withdrawn before it: the records of an older map are in nobody's way.
func TestMapLearntWhole(t *testing.T) {
	f := newFabric(t)
	var maps []uint64
	nodes := []*storetest.Node{f.world.Node(100, "x"), f.world.Node(101, "y"), f.world.Node(102, "z")}
	m := f.serve(nodes[0], dht.Config{Store: memstore.New(), OnMap: func(m *partition.Map) { maps = append(maps, m.Epoch()) }})
	learn := func(epoch uint64, members ...*storetest.Node) {
		pm, records, head := f.world.Map(epoch, members...)
		if _, err := m.server.Apply(t.Context(), start, append(records, head)); err != nil {
			t.Fatal(err)
		}
		m.server.Install(pm)
	}
	learn(1, nodes[1:]...)
	learn(2, nodes[:2]...)
	if got := m.server.Map(); got == nil || got.Epoch() != 2 || len(got.Members()) != 2 {
		t.Fatalf("maps %v", maps)
	}
	old, _, _ := f.world.Map(1, nodes[1:]...)
	if m.server.Install(old); m.server.Map().Epoch() != 2 || !slices.Equal(maps, []uint64{1, 2}) {
		t.Errorf("an older map is taken: %v", maps)
	}
}

func TestRevokedAreNotServed(t *testing.T) {
	f := newFabric(t)
	var told []uint64
	m := f.mesh(1, dht.Config{OnRevocation: func(_ *protocol.Record, v protocol.RevocationValue) { told = append(told, v.Number) }})[0]
	op, a, b := f.world.OperatorNode(), f.world.Node(7, "a"), f.world.Node(7, "b")
	loc := storetest.Key("l")
	f.put(a, m, f.world.Info(a, 1, start, loc))
	f.put(b, m, f.world.Info(b, 1, start, loc))
	listed := func() int {
		_, raw := f.say(b, m, protocol.GetTunnelNodes{Location: protocol.NewID(7, loc)})
		l, _ := protocol.ParseRecordList(raw)
		return len(l.Records)
	}
	if n := listed(); n != 2 {
		t.Fatalf("%d listed", n)
	}
	f.put(op, m, f.world.Revocation(a.ID, 1, protocol.RevokedNode))
	if n := listed(); n != 1 || !m.server.Revoked(a.ID) || m.server.Revoked(b.ID) {
		t.Errorf("%d listed after the revocation", n)
	}
	ban := protocol.NewID(7, protocol.Hash{})
	f.put(op, m, f.world.Revocation(ban, 2, protocol.BannedDomain))
	if c, _ := f.say(b, m, protocol.GetNodeInfo{ID: b.ID}); c != 0 {
		t.Errorf("banned domain answered with %s", c)
	}
	f.put(op, m, f.world.Revocation(ban, 3, protocol.UnbannedAgain))
	f.put(op, m, f.world.Revocation(ban, 2, protocol.BannedDomain)) // the list never rolls back
	if n := listed(); n != 1 || !slices.Equal(told, []uint64{1, 2, 3}) {
		t.Errorf("%d listed after the ban is lifted; told of %v", n, told)
	}
	again := f.serve(m.node, dht.Config{Store: m.store})
	if !again.server.Revoked(a.ID) || again.server.Revoked(b.ID) {
		t.Error("revocations are lost with a restart")
	}
}
