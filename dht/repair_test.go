package dht_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"

	"pgregory.net/rapid"
)

// mend runs one repair of at from with, over the handlers; lose drops the nth question.
func (f *fabric) mend(t testing.TB, at, with *member, lose func(n int) bool) (asks int, err error) {
	t.Helper()
	m := dht.NewRepair(protocol.Peer{ID: with.node.ID}, at.store, partition.Whole())
	events := []dht.Event{{Kind: dht.EventTick}}
	for !m.Done() {
		if len(events) == 0 {
			t.Fatal("the repair waits for nothing")
		}
		e := events[0]
		events = events[1:]
		for _, a := range m.Step(e) {
			if a.Kind == dht.ActApply {
				if _, err := at.server.Apply(t.Context(), f.clock(), a.Records); err != nil {
					t.Fatal(err)
				}
				continue
			}
			asks++
			if lose != nil && lose(asks) {
				events = append(events, dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
				continue
			}
			c, b := f.say(at.node, with, a.Payload)
			if c == 0 {
				t.Fatalf("%s met silence", a.Payload.Command())
			}
			events = append(events, dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: b})
		}
	}
	_, err = m.Result()
	return asks, err
}

func same(a, b *member) bool {
	for tb := protocol.TableNode; tb < protocol.TableEnd; tb++ {
		if a.store.Digest(tb, 0, 1<<64-1) != b.store.Digest(tb, 0, 1<<64-1) {
			return false
		}
	}
	return true
}

func TestRepairConverges(t *testing.T) {
	var nodes []*storetest.Node
	w := storetest.NewWorld(t)
	for i := range 40 {
		nodes = append(nodes, w.Node(protocol.Domain(7+i%3), fmt.Sprint("n", i)))
	}
	rapid.Check(t, func(rt *rapid.T) {
		f := newFabric(t)
		ms := f.mesh(2, dht.Config{})
		for i := range rapid.IntRange(0, 60).Draw(rt, "records") {
			n := nodes[rapid.IntRange(0, len(nodes)-1).Draw(rt, "node")]
			seq := rapid.Uint64Range(1, 4).Draw(rt, "sequence")
			raws := [][]byte{n.Record, f.world.Info(n, seq, start, storetest.Key(fmt.Sprint(seq%3)))}
			switch rapid.IntRange(0, 5).Draw(rt, "kind") {
			case 0:
				raws = [][]byte{f.world.Device(7, fmt.Sprint(i), seq)}
			case 1:
				raws = [][]byte{n.Record, f.world.Withdrawal(n, seq+4, start)}
			case 2:
				raws = [][]byte{f.world.Revocation(protocol.NewID(9, storetest.Key(fmt.Sprint(i))), uint64(i+1), protocol.RevokedNode)}
			}
			if _, err := ms[rapid.IntRange(0, 1).Draw(rt, "member")].server.Apply(t.Context(), start, raws); err != nil {
				rt.Fatal(err)
			}
		}
		lossy := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "loss"), 1))
		lose := func(int) bool { return lossy.IntN(12) == 0 }
		for i := range 2 {
			if _, err := f.mend(t, ms[i], ms[1-i], lose); err != nil && !errors.Is(err, dht.ErrUnreachable) {
				rt.Fatal(err)
			}
		}
		for i := range 2 { // within the interval, also after losses
			if _, err := f.mend(t, ms[i], ms[1-i], nil); err != nil {
				rt.Fatal(err)
			}
		}
		if !same(ms[0], ms[1]) {
			rt.Fatal("the two still differ")
		}
		if asks, err := f.mend(t, ms[0], ms[1], nil); err != nil || asks != 7 {
			rt.Fatalf("%d questions between equals: %v", asks, err)
		}
	})
}

func TestRepairBringsNothingOldBack(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(2, dht.Config{})
	a := f.world.Node(7, "a")
	old := f.world.Info(a, 1, start.Add(2*time.Minute))
	for i, raws := range [][][]byte{{a.Record, f.world.Withdrawal(a, 2, start)}, {a.Record, old}} {
		if _, err := ms[i].server.Apply(t.Context(), start.Add(2*time.Minute), raws); err != nil {
			t.Fatal(err)
		}
	}
	f.advance(11 * time.Minute) // the withdrawal has expired, the older record has not
	if n, err := ms[0].store.Expire(t.Context(), f.clock()); n != 1 || err != nil {
		t.Fatalf("expired %d: %v", n, err)
	}
	if _, err := f.mend(t, ms[0], ms[1], nil); err != nil {
		t.Fatal(err)
	}
	if _, err := ms[0].store.Get(protocol.TableNodeInfo, a.ID, f.clock()); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("an older record came back: %v", err)
	}
	if s := f.put(a, ms[0], old); s != int(protocol.StatusSuperseded) {
		t.Errorf("by put: %d", s)
	}
}

// A peer that answers nonsense ends its repair and changes nothing.
func TestRepairFromALiar(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(2, dht.Config{})
	a := f.world.Node(7, "a")
	forged := bytes.Clone(f.world.Info(a, 1, start))
	forged[150] ^= 1
	whole := protocol.DigestPart{To: 1<<64 - 1, Count: 3}
	half := protocol.DigestPart{To: 1 << 63, Count: 3}
	page := func(next protocol.ID, raws ...[]byte) protocol.Payload {
		return protocol.Repaired{RecordList: protocol.RecordList{Records: raws, Next: next}}
	}
	for name, answers := range map[string][2]protocol.Payload{ // to digests, to pages
		"no parts":       {protocol.Digests{}, nil},
		"not smaller":    {protocol.Digests{Parts: []protocol.DigestPart{whole}}, nil},
		"a gap":          {protocol.Digests{Parts: []protocol.DigestPart{half}}, nil},
		"no digests":     {protocol.Busy{}, nil},
		"pages for ever": {nil, page(protocol.ID{35: 9}, forged)},
		"garbage":        {nil, protocol.Pong{}},
	} {
		m := dht.NewRepair(protocol.Peer{ID: ms[1].node.ID}, ms[0].store, partition.Whole())
		events := []dht.Event{{Kind: dht.EventTick}}
		for n := 0; !m.Done() && len(events) > 0; n++ {
			if n > 10_000 {
				t.Fatalf("%s: no end", name)
			}
			e := events[0]
			events = events[1:]
			for _, act := range m.Step(e) {
				if act.Kind == dht.ActApply {
					if stored, err := ms[0].server.Apply(t.Context(), start, act.Records); err != nil || stored != 0 {
						t.Fatalf("%s: stored %d: %v", name, stored, err)
					}
					continue
				}
				p := answers[0]
				if d, ok := act.Payload.(protocol.Digest); ok && p == nil {
					var parts []protocol.DigestPart
					for _, g := range (partition.Range{From: d.From, To: d.To}).Split(16) {
						parts = append(parts, protocol.DigestPart{From: g.From, To: g.To, Count: 1, Sum: [16]byte{9}})
					}
					p = protocol.Digests{Parts: parts}
				} else if !ok {
					p = answers[1]
				}
				b, err := protocol.AppendPayload(nil, p)
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, dht.Event{Kind: dht.EventAnswer, Tag: act.Tag, Command: p.Command(), Payload: b})
			}
		}
		if _, err := m.Result(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReplicatorReadiness(t *testing.T) {
	w := storetest.NewWorld(t)
	nodes := []*storetest.Node{w.Node(100, "self"), w.Node(100, "b"), w.Node(100, "c")}
	pm, _, _ := w.Map(1, nodes...)
	alone, _, _ := w.Map(2, nodes[0])
	failure := dht.RepairEnd{Err: dht.ErrUnreachable}
	done := dht.RepairEnd{Epoch: 1}
	finish := func(r *dht.Replicator, now time.Time, id protocol.ID, e dht.RepairEnd) {
		mem, _ := pm.Member(id)
		r.Finished(now, dht.ReplicaTask{Member: mem, Shared: []partition.Range{partition.Whole()}}, e)
	}
	plan := func(last time.Time) *dht.Replicator {
		return dht.NewReplicator(nodes[0].ID, time.Minute, last, start, rand.New(rand.NewPCG(1, 1)))
	}
	r := plan(time.Time{})
	r.SetMap(start, pm)
	if due := r.Due(start); len(due) != 2 || len(r.Due(start)) != 0 || r.Ready() {
		t.Fatalf("%d due, ready %v", len(due), r.Ready())
	}
	finish(r, start, nodes[1].ID, failure)
	finish(r, start, nodes[2].ID, failure)
	if r.Ready() {
		t.Error("ready though nobody could be reached")
	}
	if d := r.Deadline().Sub(start); d <= 0 || d > 5*time.Second {
		t.Errorf("next try after %v", d)
	}
	now := r.Deadline()
	if len(r.Due(now)) != 2 {
		t.Error("no second try")
	}
	finish(r, now, nodes[1].ID, done)
	if !r.Ready() {
		t.Error("not ready though the only one who can be reached is done")
	}
	finish(r, now, nodes[2].ID, done)
	for range 50 { // steady: each peer within the interval
		d := r.Deadline()
		if gap := d.Sub(now); gap < 0 || gap > time.Minute {
			t.Fatalf("gap of %v", gap)
		}
		now = d
		r.Drop(now)
		r.Settled(now)
		for _, task := range r.Due(now) {
			finish(r, now, task.Member.Peer.ID, done)
		}
	}
	if r = plan(start.Add(-5 * time.Minute)); !r.Ready() {
		t.Error("not ready after a short absence")
	}
	for name, errs := range map[string][2]dht.RepairEnd{"repaired with one": {done, done}, "all that is left": {failure, failure}} {
		r = plan(start.Add(-24 * time.Hour))
		if r.SetMap(start, pm); r.Ready() {
			t.Error("ready at once after a day")
		}
		r.Due(start)
		finish(r, start, nodes[1].ID, errs[0])
		if name == "all that is left" {
			finish(r, start, nodes[2].ID, errs[1])
		}
		if !r.Ready() {
			t.Errorf("%s: not ready", name)
		}
	}
	others, _, _ := w.Map(2, nodes[1:]...)
	if r.SetMap(start, others); r.Ready() {
		t.Error("ready though it is out of the map")
	}
	if r.SetMap(start, pm); r.Ready() || len(r.Due(start)) != 2 {
		t.Error("back in the map, it does not begin anew")
	}
	r = plan(time.Time{})
	r.SetMap(start, alone)
	for range 2 { // settled, then dropped
		now = r.Deadline()
		r.Settled(now)
		r.Drop(now)
	}
	if !r.Ready() || !r.Deadline().IsZero() {
		t.Error("not ready though there is nobody else")
	}
}

// However many members a map has, one repairs with all of its range and with a few others.
func TestReplicatorPeersAreBounded(t *testing.T) {
	w := storetest.NewWorld(t)
	var places []storetest.Place
	for i := range 300 {
		from := uint64(i/3) << 56
		places = append(places, storetest.Place{
			Node: w.Node(protocol.Domain(100+i), fmt.Sprint("s", i)), Range: partition.Range{From: from, To: from + 1<<56 - 1}, Fill: partition.None(),
		})
	}
	r := dht.NewReplicator(places[4].Node.ID, time.Minute, time.Time{}, start, rand.New(rand.NewPCG(1, 1)))
	var before []protocol.ID
	for epoch := range uint64(2) {
		now := start.Add(time.Duration(epoch) * time.Hour)
		m, _, _ := w.Layout(epoch+1, places...)
		r.SetMap(now, m)
		var ids []protocol.ID
		mates := 0
		for _, task := range r.Due(now) {
			ids = append(ids, task.Member.Peer.ID)
			if len(task.Shared) > 0 {
				mates++
			}
			r.Finished(now, task, dht.RepairEnd{Err: dht.ErrReadOnly, Local: true})
		}
		if len(ids) > 20 || len(ids) < 10 || mates != 2 {
			t.Fatalf("%d due, %d of the same range", len(ids), mates)
		}
		if epoch > 0 && !slices.Equal(ids, before) {
			t.Errorf("others after a map that changes nothing: %v, %v", ids, before)
		}
		before = ids
	}
}
