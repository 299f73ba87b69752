package sim

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

// super is a super-node, or the operator's node: dht.Server on a disk, and what dht.Replica and package node do around it.
type super struct {
	*host
	server   *dht.Server
	handlers map[protocol.Command]protocol.Handler
	plan     *dht.Replicator
	reader   *reader // for the map
	domain   protocol.Domain
	lie      lie // nil while honest

	current *partition.Map
	turnAt  time.Duration
	gone    bool          // dead for good
	since   time.Duration // when it came back from the last fault
	lied    time.Duration // when its last lie ended
	wiped   time.Duration // when it lost its disk
}

// lying reports whether it lies, or has since then.
func (n *super) lying(since time.Duration) bool { return n.lie != nil || n.lied > 0 && n.lied >= since }

const (
	replicaTimeout  = 3 * time.Second
	repairedSetting = "dht.repaired"
	mapEvery        = 4 * time.Minute
	mapServing      = time.Minute
	mapAlone        = 10 * time.Second // while no super-node is known
	submitEvery     = 10 * time.Second
)

func (s *Sim) newSuper(name string, id *identity) *super {
	n := &super{host: s.newHost(name, id), domain: id.id.Domain()}
	newDisk(n.host)
	n.reader = newReader(n.host)
	n.handle = n.answer
	s.supers = append(s.supers, n)
	n.start()
	return n
}

func (n *super) operator() bool { return n.domain == protocol.OperatorDomain }

// start is the process's start, on what the disk has.
func (n *super) start() {
	n.up = true
	n.life++
	n.since, n.turnAt = n.s.now, 0
	n.reader.forget()
	n.reader.pmap, n.current = nil, nil
	var err error
	n.server, err = dht.NewServer(dht.Config{
		Self: n.ident.id, Store: n.disk, Trust: n.s.world.trust(), RootKey: n.s.world.root.Signing.Public(), Operator: n.operator(),
		OnMap:      func(m *partition.Map) { n.reader.setMap(m); n.soon() },
		OnTransfer: func(epoch uint64) { n.timer(0, func() { n.reader.followTo(epoch) }) },
	}, n.clock())
	if err != nil {
		panic(err)
	}
	n.server.HoldBack()
	n.handlers = n.server.Handlers()
	n.reader.onMap = n.apply
	n.reader.setMap(n.server.Map())
	text, _ := n.disk.Setting(repairedSetting)
	var last time.Time
	if ms, err := strconv.ParseInt(string(text), 10, 64); err == nil && ms > 0 {
		last = time.UnixMilli(ms)
	}
	n.plan = dht.NewReplicator(n.ident.id, interval, last, n.clock(), n.s.source())
	n.soon()
	n.collectLoop()
	n.timer(0, n.mapLoop)
	if !n.operator() {
		n.timer(n.s.between(0, time.Second), n.submitLoop)
	}
}

// answer runs the handler, and then what makes a liar of an honest node.
func (n *super) answer(now time.Time, v *protocol.Verified) []protocol.Out {
	if v.Command == protocol.CmdPing {
		return protocol.Reply(protocol.Pong{Time: now.UnixMilli()})
	}
	if v.Command == protocol.CmdSubmitSuperNode && n.operator() {
		return n.s.op.submitted(v)
	}
	h := n.handlers[v.Command]
	if h == nil {
		return nil
	}
	if n.lie != nil {
		return n.lie(now, v, h)
	}
	return h(now, v)
}

// apply has the server hold the records of a map that was learned as a reader.
func (n *super) apply(m *partition.Map) {
	if have := n.server.Map(); have != nil && have.Epoch() >= m.Epoch() {
		return
	}
	raws := make([][]byte, 0, len(m.Members())+1)
	for _, mem := range m.Members() {
		raws = append(raws, mem.Record)
	}
	if _, err := n.server.Apply(context.Background(), n.clock(), append(raws, m.Head())); err != nil {
		panic(err)
	}
	n.server.Install(m)
	n.soon()
}

func (n *super) mapLoop() {
	n.reader.follow()
	n.timer(min(n.reader.mapWait(), n.s.between(mapServing, mapServing*5/4)), n.mapLoop) // it may not be a member any more
}

func (n *super) collectLoop() {
	n.timer(interval/2, func() {
		if _, err := n.disk.Expire(context.Background(), n.clock()); err != nil {
			panic(err)
		}
		n.collectLoop()
	})
}

// submitLoop offers the node to the operator whenever the map does not name it.
func (n *super) submitLoop() {
	n.timer(submitEvery, n.submitLoop)
	if m := n.reader.pmap; m != nil {
		if _, ok := m.Member(n.ident.id); ok {
			return
		}
	}
	n.ask(n.s.world.operator.id, protocol.SubmitSuperNode{Addresses: []protocol.Addr{protocol.AddrOf(address(n.index))}}, 5*time.Second,
		func(_ protocol.Command, _ []byte, ok bool) {
			if ok {
				n.reader.follow()
			}
		})
}

// soon looks at what is due, after what is happening now.
func (n *super) soon() { n.timer(0, n.turn) }

// turn is one round of dht.Replica's loop.
func (n *super) turn() {
	now := n.clock()
	if m := n.server.Map(); m != nil && m != n.current {
		n.current = m
		n.plan.SetMap(now, m)
	}
	n.server.SetReady(n.plan.Ready())
	n.server.SetProgress(n.plan.Progress(now))
	if !n.plan.Holding(now) {
		n.server.Release(n.plan.Epoch())
	}
	for _, t := range n.plan.Due(now) {
		n.mend(t)
	}
	if n.plan.Settled(now) {
		n.server.Settled(n.plan.Epoch())
	}
	if n.plan.Drop(now) {
		self := n.ident.id
		if w := n.server.NewSweep(n.plan.Epoch(), func(id protocol.ID) bool { return id == self }); w != nil {
			n.sweep(w)
		}
	}
	if d := n.plan.Deadline(); !d.IsZero() {
		at := n.s.now + max(d.Sub(now), time.Millisecond)
		if n.turnAt <= n.s.now || at < n.turnAt {
			n.turnAt = at
			n.timer(at-n.s.now, n.turn)
		}
	}
}

func (n *super) sweep(w *dht.Sweep) {
	if w.Done() {
		return
	}
	if k, err := w.Step(context.Background(), n.clock()); err != nil {
		panic(err)
	} else if k > 0 {
		n.s.say("%s drops %d records that others have taken over", n, k)
	}
	n.timer(50*time.Millisecond, func() { n.sweep(w) })
}

// mend runs one repair.
func (n *super) mend(t dht.ReplicaTask) {
	m := dht.NewRepair(t.Member.Peer, n.disk, t.Shared...)
	var held [][]byte
	flush := func() {
		if _, err := n.server.Apply(context.Background(), n.clock(), held); err != nil {
			panic(err)
		}
		held = nil
	}
	var step func(e dht.Event)
	step = func(e dht.Event) {
		if m.Done() {
			return
		}
		if e.Command == protocol.CmdDigests && len(held) > 0 {
			flush()
		}
		for _, a := range m.Step(e) {
			switch a.Kind {
			case dht.ActApply:
				for _, raw := range a.Records {
					held = append(held, bytes.Clone(raw))
				}
			case dht.ActAsk:
				n.ask(a.Peer.ID, a.Payload, replicaTimeout, func(c protocol.Command, payload []byte, ok bool) {
					if !ok {
						step(dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
						return
					}
					step(dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: payload})
				})
			}
		}
		if m.Done() {
			flush()
			end := m.End()
			if end.Err != nil && n.s.log != nil {
				n.s.say("%s: repair with %s: %v", n, n.s.find(t.Member.Peer.ID), end.Err)
			}
			n.plan.Finished(n.clock(), t, end)
			if end.Err == nil && n.plan.Ready() {
				_ = n.disk.SetSetting(context.Background(), repairedSetting, strconv.AppendInt(nil, n.clock().UnixMilli(), 10))
			}
			n.soon()
		}
	}
	step(dht.Event{Kind: dht.EventTick})
}
