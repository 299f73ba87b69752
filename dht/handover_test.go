package dht_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// Everything stored before comes by repair, everything after is passed on, and only both are called filled.
func TestFilling(t *testing.T) {
	f := newFleet(t, 5)
	a, b, c, filler, other := f.order[0], f.order[1], f.order[2], f.order[3], f.order[4]
	first := f.layout(1, place{a, whole, none}, place{b, whole, none}, place{c, whole, none})
	f.install(first, a, b, c)
	f.tick()
	n := f.world.Node(7, "n")
	if s := f.put(n, a.member, f.world.Info(n, 1, start)); s != 0 {
		t.Fatalf("status %d", s)
	}
	for i := range 300 {
		if _, err := a.server.Apply(t.Context(), start, [][]byte{f.world.Device(7, fmt.Sprint("d", i), 1)}); err != nil {
			t.Fatal(err)
		}
	}
	f.pass(time.Minute)
	second := f.layout(2, place{a, whole, none}, place{b, whole, none}, place{c, whole, none}, place{filler, none, whole}, place{other, none, whole})
	f.install(second, filler, other, a, b)
	f.pass(50 * time.Second)
	p := f.progress(filler)
	if p.Filled || p.Epoch != 2 || p.Have != p.Want || p.Want != 602 {
		t.Errorf("before all who serve know the map: %+v", p)
	}
	if len(p.Silent) != 1 || p.Silent[0] != c.node.ID {
		t.Errorf("failing members: %v, want the one without the map", p.Silent)
	}
	f.install(second, c)
	f.pass(15 * time.Second)
	if p := f.progress(filler); !p.Filled || p.Have != 602 || len(p.Silent) != 0 {
		t.Errorf("with all who serve: %+v", p)
	}
	newer := f.world.Info(n, 2, f.clock())
	if s := f.put(n, c.member, newer); s != 0 || !f.has(filler, newer) || !f.has(other, newer) {
		t.Errorf("a store after that was not passed on (status %d)", s)
	}
	if cmd, _ := f.say(n, filler.member, protocol.GetNodeInfo{ID: n.ID}); cmd != protocol.CmdWrongRange {
		t.Errorf("a reader of what is only being taken over got %v", cmd)
	}
	for _, q := range []protocol.Payload{
		protocol.Repair{Table: protocol.TableNode, To: 1<<64 - 1}, protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1},
	} {
		if cmd, _ := f.say(a.node, filler.member, q); cmd != protocol.CmdWrongRange {
			t.Errorf("a member's %v of what is only being taken over got %v", q.Command(), cmd)
		}
	}
	if cmd, _ := f.say(f.world.OperatorNode(), filler.member, protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1}); cmd != protocol.CmdDigests {
		t.Errorf("the operator's digest got %v", cmd)
	}
	// Who is in no map, and who does not keep the range, gets no assurance.
	half := partition.Range{To: 1 << 63}
	f.install(f.layout(3, place{a, whole, none}, place{b, half, none}), a)
	if cmd, _ := f.say(b.node, a.member, protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1}); cmd != protocol.CmdWrongRange {
		t.Errorf("a stranger to the range got %v", cmd)
	}
	if cmd, _ := f.say(f.world.Node(100, "stranger"), a.member, protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1}); cmd != 0 {
		t.Errorf("a stranger to the map got %v", cmd)
	}
}

// A silent server is left out as long as every position had another; without any, nothing is filled.
func TestFillingPastTheSilent(t *testing.T) {
	f := newFleet(t, 4)
	a, b, c, filler := f.order[0], f.order[1], f.order[2], f.order[3]
	low, high := partition.Range{To: 1<<63 - 1}, partition.Range{From: 1 << 63, To: 1<<64 - 1}
	m := f.layout(1, place{a, low, none}, place{b, low, none}, place{c, high, none}, place{filler, none, whole})
	f.install(m, f.order...)
	b.down = true
	f.pass(50 * time.Second)
	if p := f.progress(filler); p.Filled {
		t.Error("filled though one that serves may just lack the map")
	}
	f.pass(30 * time.Second)
	if p := f.progress(filler); !p.Filled || len(p.Silent) != 1 || p.Silent[0] != b.node.ID {
		t.Errorf("past a silent one: %+v", p)
	}
	c.down = true
	f.install(f.layout(2, place{a, low, none}, place{b, low, none}, place{c, high, none}, place{filler, none, whole}), f.order...)
	f.pass(2 * time.Minute)
	if p := f.progress(filler); p.Filled || len(p.Silent) != 2 || p.Silent[0] != b.node.ID {
		t.Errorf("half of it had nobody: %+v", p)
	}
}

// One that says for ever that it goes by an older map holds up nobody, as long as every position had another.
func TestFillingPastOneThatStaysBehind(t *testing.T) {
	f := newFleet(t, 3)
	a, b, filler := f.order[0], f.order[1], f.order[2]
	f.install(f.layout(1, place{a, whole, none}, place{b, whole, none}, place{filler, none, whole}), b)
	f.install(f.layout(2, place{a, whole, none}, place{b, whole, none}, place{filler, none, whole}), a, filler)
	f.pass(4 * time.Minute)
	if p := f.progress(filler); p.Filled {
		t.Error("filled though one may pass nothing on to it yet")
	}
	f.pass(2 * time.Minute)
	if p := f.progress(filler); !p.Filled {
		t.Errorf("not filled past it: %+v", p)
	}
	f.install(f.layout(3, place{b, whole, none}, place{filler, none, whole}), filler)
	f.pass(10 * time.Minute)
	if p := f.progress(filler); p.Filled {
		t.Error("filled though nobody else was there")
	}
}

// The last stores of a member that leaves reach its successor before that one answers, though they were not passed on.
func TestLastStoresOfWhoLeaves(t *testing.T) {
	f := newFleet(t, 4)
	a, b, c, d := f.order[0], f.order[1], f.order[2], f.order[3]
	f.install(f.layout(1, place{a, whole, none}, place{b, whole, none}, place{c, whole, none}, place{d, none, whole}), f.order...)
	n := f.world.Node(7, "n")
	f.put(n, a.member, f.world.Info(n, 1, start))
	f.pass(30 * time.Second)
	if p := f.progress(d); !p.Filled {
		t.Fatalf("not filled: %+v", p)
	}
	a.forwards(false)
	last := f.world.Info(n, 2, f.clock())
	if s := f.put(n, a.member, last); s != 0 || f.has(d, last) {
		t.Fatalf("status %d", s)
	}
	next := f.layout(2, place{b, whole, none}, place{c, whole, none}, place{d, whole, none})
	f.install(next, b, c, d)
	f.tick()
	if cmd, _ := f.say(n, d.member, protocol.GetNodeInfo{ID: n.ID}); cmd != protocol.CmdWrongRange {
		t.Errorf("it answers (%v) while the one that leaves still takes stores", cmd)
	}
	last = f.world.Info(n, 3, f.clock())
	if s := f.put(n, a.member, last); s != 0 {
		t.Fatalf("status %d", s)
	}
	f.install(next, a)
	f.pass(time.Second)
	if cmd, b := f.say(n, d.member, protocol.GetNodeInfo{ID: n.ID}); cmd != protocol.CmdNodeInfo || !slices.Contains(listed(t, b), string(last)) {
		t.Errorf("%v without the last store", cmd)
	}
	if s := f.put(n, a.member, f.world.Info(n, 4, f.clock())); s == 0 {
		t.Error("a store was confirmed by one that keeps the range no longer")
	}
	// One that has gone for good holds its successor up for a moment only.
	d2 := f.order[0]
	f.install(f.layout(3, place{b, whole, none}, place{c, whole, none}, place{d, whole, none}, place{d2, none, whole}), f.order...)
	f.pass(10 * time.Second)
	b.down = true
	f.install(f.layout(4, place{c, whole, none}, place{d, whole, none}, place{d2, whole, none}), c, d, d2)
	f.pass(10 * time.Second)
	if cmd, _ := f.say(n, d2.member, protocol.GetNodeInfo{ID: n.ID}); cmd != protocol.CmdNodeInfo {
		t.Errorf("still %v after the dead one's time", cmd)
	}
}

func listed(t *testing.T, payload []byte) []string {
	t.Helper()
	l, err := protocol.ParseRecordList(payload)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range l.Records {
		out = append(out, string(r))
	}
	return out
}

// What others have taken over goes after the grace, in bounded steps; what is everywhere or the node's own stays, and so do
// the marks. What is given back comes back.
func TestDropping(t *testing.T) {
	f := newFleet(t, 2)
	a, b := f.order[0], f.order[1]
	low, high := partition.Range{To: 1<<63 - 1}, partition.Range{From: 1 << 63, To: 1<<64 - 1}
	f.install(f.layout(1, place{a, whole, none}, place{b, whole, none}), a, b)
	f.tick()
	own := f.world.Info(a.node, 1, start)
	var raws [][]byte
	for i := range 1000 {
		raws = append(raws, f.world.Device(protocol.Domain(1<<31+i), fmt.Sprint("d", i), 2))
	}
	rev := f.world.Revocation(protocol.NewID(1<<31, storetest.Key("x")), 1, protocol.RevokedNode)
	below := f.world.Device(9, "low", 2)
	for _, k := range f.order {
		if _, err := k.server.Apply(t.Context(), start, append(slices.Clone(raws), a.node.Record, own, rev, below)); err != nil {
			t.Fatal(err)
		}
	}
	// The node's own ID may be below: the map is laid out so that it is not a's.
	mine, theirs := low, high
	if !high.ContainsKey(a.node.ID) {
		own = nil
	}
	f.install(f.layout(2, place{a, mine, none}, place{b, theirs, none}), a, b)
	f.pass(3 * time.Minute)
	if !f.has(a, raws[0]) {
		t.Fatal("dropped before the grace was over")
	}
	if cmd, _ := f.say(b.node, a.member, protocol.Digest{Table: protocol.TableEndDevice, From: theirs.From, To: theirs.To}); cmd != protocol.CmdDigests {
		t.Errorf("the new holder may not compare during the grace: %v", cmd)
	}
	f.pass(3 * time.Minute)
	if got := a.store.Digest(protocol.TableEndDevice, theirs.From, theirs.To).Count; got != 0 {
		t.Errorf("%d pairs left after the grace", got)
	}
	if got := b.store.Digest(protocol.TableEndDevice, theirs.From, theirs.To).Count; got != 2000 {
		t.Errorf("the new holder has %d pairs", got)
	}
	if !f.has(a, below) || !f.has(a, rev) || !f.has(a, a.node.Record) || own != nil && !f.has(a, own) {
		t.Error("what is its own, or everywhere, went too")
	}
	if cmd, _ := f.say(b.node, a.member, protocol.Digest{Table: protocol.TableEndDevice, From: theirs.From, To: theirs.To}); cmd != protocol.CmdWrongRange {
		t.Errorf("after the grace: %v", cmd)
	}
	if _, err := a.server.Apply(t.Context(), f.clock(), [][]byte{f.world.Device(1<<31, "d0", 1)}); err != nil || f.has(a, f.world.Device(1<<31, "d0", 1)) {
		t.Errorf("an older record came back: %v", err)
	}
	f.install(f.layout(3, place{a, mine, theirs}, place{b, theirs, none}), a, b)
	f.pass(10 * time.Second)
	if p := f.progress(a); !p.Filled || p.Have != p.Want || !f.has(a, raws[0]) {
		t.Errorf("given back: %+v", p)
	}
}

// One that the map no longer names keeps everything for a day.
func TestLeavingTheMapDropsNothingAtOnce(t *testing.T) {
	f := newFleet(t, 2)
	a, b := f.order[0], f.order[1]
	f.install(f.layout(1, place{a, whole, none}, place{b, whole, none}), a, b)
	f.tick()
	d := f.world.Device(7, "d", 1)
	if _, err := a.server.Apply(t.Context(), start, [][]byte{d, a.node.Record}); err != nil {
		t.Fatal(err)
	}
	f.install(f.layout(2, place{b, whole, none}), a, b)
	f.tick()
	f.advance(23 * time.Hour)
	if f.tick(); !f.has(a, d) {
		t.Fatal("dropped within the day")
	}
	f.install(f.layout(3, place{a, whole, none}, place{b, whole, none}), a, b)
	f.tick()
	f.advance(2 * time.Hour)
	if f.tick(); !f.has(a, d) {
		t.Fatal("dropped though it is back in the map")
	}
	f.install(f.layout(4, place{b, whole, none}), a, b)
	f.tick()
	f.advance(25 * time.Hour)
	if f.tick(); f.has(a, d) || !f.has(a, a.node.Record) {
		t.Error("after a day: kept, or its own certificate lost")
	}
	if _, err := a.store.Get(protocol.TableEndDevice, storetest.Parse(t, d).Owner, f.clock()); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A member whose own store fails accuses nobody.
func TestOwnFailureAccusesNobody(t *testing.T) {
	f := newFleet(t, 3)
	m := f.layout(1, place{f.order[0], none, whole}, place{f.order[1], whole, none}, place{f.order[2], whole, none})
	plan, now := f.order[0].plan, start
	plan.SetMap(now, m)
	for range 20 {
		for _, task := range plan.Due(now) {
			plan.Finished(now, task, dht.RepairEnd{Err: dht.ErrReadOnly, Local: true})
		}
		now = now.Add(time.Minute)
	}
	if p := plan.Progress(now); p.Filled || len(p.Silent) != 0 {
		t.Errorf("%+v", p)
	}
}
