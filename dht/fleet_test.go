package dht_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// fleet are super-nodes with their Replicators, driven by hand under a virtual clock.
type fleet struct {
	*fabric
	order []*keeper
}

type keeper struct {
	*member
	plan *dht.Replicator
	seen *partition.Map
}

var whole, none = partition.Whole(), partition.None()

// newFleet makes n super-nodes of which none is in a map yet.
func newFleet(t testing.TB, n int) *fleet {
	f := &fleet{fabric: newFabric(t)}
	for i := range n {
		node := f.world.Node(100, fmt.Sprint("super ", i))
		k := &keeper{member: f.serve(node, dht.Config{})}
		k.server.HoldBack()
		k.plan = dht.NewReplicator(node.ID, time.Minute, time.Time{}, start, rand.New(rand.NewPCG(uint64(i), 1)))
		f.order = append(f.order, k)
	}
	return f
}

type place struct {
	of          *keeper
	rng, filled partition.Range
}

// layout signs a map.
func (f *fleet) layout(epoch uint64, ps ...place) *partition.Map {
	var l []storetest.Place
	for _, p := range ps {
		l = append(l, storetest.Place{Node: p.of.node, Range: p.rng, Fill: p.filled})
	}
	m, _, _ := f.world.Layout(epoch, l...)
	return m
}

func (f *fleet) install(m *partition.Map, at ...*keeper) {
	for _, k := range at {
		k.server.Install(m)
	}
}

// tick lets every super-node do what is due now.
func (f *fleet) tick() {
	for _, k := range f.order {
		if !k.down {
			f.tickOne(k)
		}
	}
}

func (f *fleet) tickOne(k *keeper) {
	now := f.clock()
	if m := k.server.Map(); m != nil && m != k.seen {
		k.seen = m
		k.plan.SetMap(now, m)
	}
	if k.seen == nil {
		return
	}
	for _, task := range k.plan.Due(now) {
		k.plan.Finished(now, task, f.repair(k, task))
	}
	k.server.SetReady(k.plan.Ready())
	k.server.SetProgress(k.plan.Progress(now))
	if !k.plan.Holding(now) {
		k.server.Release(k.plan.Epoch())
	}
	if k.plan.Settled(now) {
		k.server.Settled(k.plan.Epoch())
	}
	if k.plan.Drop(now) {
		w := k.server.NewSweep(k.plan.Epoch(), func(id protocol.ID) bool { return id == k.node.ID })
		for w != nil && !w.Done() {
			if _, err := w.Step(f.t.Context(), now); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// pass lets time go by, with everything that falls due in it.
func (f *fleet) pass(d time.Duration) {
	for end := f.clock().Add(d); f.clock().Before(end); {
		f.advance(min(time.Second, end.Sub(f.clock())))
		f.tick()
	}
}

func (f *fleet) repair(k *keeper, task dht.ReplicaTask) dht.RepairEnd {
	m := dht.NewRepair(task.Member.Peer, k.store, task.Shared...)
	for events := []dht.Event{{Kind: dht.EventTick}}; !m.Done(); {
		if len(events) == 0 {
			f.t.Fatal("the repair waits for nothing")
		}
		acts := m.Step(events[0])
		events = events[1:]
		for _, a := range acts {
			if a.Kind == dht.ActApply {
				if _, err := k.server.Apply(f.t.Context(), f.clock(), a.Records); err != nil {
					f.t.Fatal(err)
				}
				continue
			}
			events = append(events, f.ask(k.node, a))
		}
	}
	return m.End()
}

// ask carries one question of a machine.
func (f *fleet) ask(from *storetest.Node, a dht.Action) dht.Event {
	e := dht.Event{Kind: dht.EventFailed, Tag: a.Tag}
	if to := f.servers[a.Peer.ID]; to != nil && !to.down {
		if c, b := f.say(from, to, a.Payload); c != 0 {
			e = dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: b}
		}
	}
	return e
}

// progress is what a super-node tells the operator.
func (f *fleet) progress(k *keeper) protocol.PartitionTransferred {
	c, b := f.say(f.world.OperatorNode(), k.member, protocol.TransferPartition{})
	p, err := protocol.ParsePayload[protocol.PartitionTransferred](b)
	if c != protocol.CmdPartitionTransferred || err != nil {
		f.t.Fatalf("%v: %v", c, err)
	}
	return p
}

func (f *fleet) has(k *keeper, raw []byte) bool {
	r := storetest.Parse(f.t, raw)
	got, err := k.store.Get(r.Table, r.Owner, f.clock())
	return err == nil && string(got) == string(raw)
}

// forwards switches what a super-node passes on.
func (k *keeper) forwards(on bool) {
	k.hook = nil
	if !on {
		k.hook = func(_ *protocol.Verified, out []protocol.Out) []protocol.Out {
			return slices.DeleteFunc(slices.Clone(out), func(o protocol.Out) bool { return !o.Reply })
		}
	}
}
