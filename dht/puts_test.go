package dht_test

import (
	"fmt"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func status(t *testing.T, out []protocol.Out) protocol.Status {
	t.Helper()
	if len(out) == 0 || out[0].Command != protocol.CmdStored {
		t.Fatalf("answered with %v", out)
	}
	st, err := protocol.ParseStored(out[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	return st.Status
}

// Puts that are taken in together are each judged and answered as if alone.
func TestPutsTogether(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(2, dht.Config{})
	m, fellow := ms[0], ms[1].node
	a, b, foreign := f.world.Node(7, "a"), f.world.Node(7, "b"), f.world.Node(8, "foreign")
	info := f.world.Info(b, 1, start)
	waited := 0
	outs := m.server.Puts(start, []*protocol.Verified{
		message(a, m.node, protocol.Put{Key: a.ID, Record: f.world.Info(a, 2, start)}),
		message(a, m.node, protocol.Put{Key: a.ID, Record: f.world.Info(a, 1, start)}),
		message(foreign, m.node, protocol.Put{Key: a.ID, Record: f.world.Info(a, 3, start)}),
		message(a, m.node, protocol.Put{}),
		// A record that is passed on right behind the certificate it rests on.
		message(fellow, m.node, protocol.Put{Key: b.ID, Record: b.Record, Forwarded: true}),
		message(fellow, m.node, protocol.Put{Key: b.ID, Record: info, Forwarded: true}),
	}, func() { waited++ })
	if waited != 1 {
		t.Errorf("said %d times that it waits", waited)
	}
	for i, want := range map[int]protocol.Status{0: protocol.StatusOK, 1: protocol.StatusSuperseded, 4: protocol.StatusOK, 5: protocol.StatusOK} {
		if got := status(t, outs[i]); got != want {
			t.Errorf("put %d: status %d, want %d", i, got, want)
		}
	}
	if outs[2] != nil || outs[3] != nil {
		t.Errorf("answers to a foreign domain and to nonsense: %v, %v", outs[2], outs[3])
	}
	if raw, err := m.store.Get(protocol.TableNodeInfo, b.ID, start); err != nil || string(raw) != string(info) {
		t.Errorf("passed on right behind its certificate: %v", err)
	}
	if raw, err := m.store.Get(protocol.TableNodeInfo, a.ID, start); err != nil || storetest.Parse(t, raw).Sequence != 2 {
		t.Errorf("the newest of two: %v", err)
	}
}

// All that commits at once has looked at the same counts, and still a domain gets no more than its quota.
func TestQuotaOfPutsTogether(t *testing.T) {
	f := newFabric(t)
	m := f.mesh(1, dht.Config{Limits: dht.Limits{DomainRecords: 30, PerEnrolled: -1}})[0]
	var vs []*protocol.Verified
	for i := range 64 {
		n := f.world.Node(7, fmt.Sprint("flood ", i))
		vs = append(vs, message(n, m.node, protocol.Put{Key: n.ID, Record: f.world.Info(n, 1, start)}))
	}
	for round := range 2 { // the second replaces nothing: the very same is held
		counted := map[protocol.Status]int{}
		for _, out := range m.server.Puts(start, vs, nil) {
			counted[status(t, out)]++
		}
		if counted[protocol.StatusOK] != 15 || counted[protocol.StatusQuota] != 49 { // each brings its certificate
			t.Errorf("round %d: %v", round, counted)
		}
	}
	vs = nil
	for i := range 15 {
		n := f.world.Node(7, fmt.Sprint("flood ", i))
		vs = append(vs, message(n, m.node, protocol.Put{Key: n.ID, Record: f.world.Info(n, 2, start)}))
	}
	for _, out := range m.server.Puts(start, vs, nil) {
		if s := status(t, out); s != protocol.StatusOK {
			t.Errorf("a replacement at the limit: %d", s)
		}
	}
}
