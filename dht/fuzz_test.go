package dht_test

import (
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func FuzzServer(f *testing.F) {
	fb := newFabric(f)
	ms := fb.mesh(2, dht.Config{Limits: dht.Limits{NodePuts: 1e9, NodeBurst: 1e9, DomainPuts: 1e9, DomainBurst: 1e9}})
	a := fb.world.Node(7, "a")
	for _, p := range []protocol.Payload{
		protocol.GetNode{ID: a.ID}, protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: a.ID}, protocol.GetEndDevices{Key: a.ID},
		protocol.GetRevocations{Since: 3}, protocol.GetSuperNodes{}, protocol.GetOperatorNodes{},
		protocol.Put{Key: a.ID, Record: fb.world.Info(a, 1, start, storetest.Key("l"))}, protocol.Digest{Table: 1, To: 9},
		protocol.Repair{Table: 2, To: 1 << 60}, protocol.TransferPartition{Epoch: 4},
	} {
		b, err := protocol.AppendPayload(nil, p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(p.Command()), b, uint16(1148), false)
		f.Add(byte(p.Command()), b, uint16(300), true)
	}
	f.Fuzz(func(t *testing.T, cmd byte, payload []byte, limit uint16, asMember bool) {
		from := a
		if asMember {
			from = ms[1].node
		}
		v := message(from, ms[0].node, protocol.Ping{})
		v.Command, v.Payload, v.ReplyLimit = protocol.Command(cmd), payload, int(limit)%1149
		ms[0].server.Cached(v)
		h := ms[0].server.Handlers()[v.Command]
		if h == nil {
			return
		}
		for _, o := range h(start, v) {
			if o.Reply && len(o.Payload) > 1148 || o.Reply && len(o.Payload) > v.ReplyLimit && len(o.Payload) > 64 {
				t.Fatalf("%s: reply of %d bytes, limit %d", v.Command, len(o.Payload), v.ReplyLimit)
			}
		}
	})
}

// FuzzAnswer feeds a lookup whatever a member may answer.
func FuzzAnswer(f *testing.F) {
	w := storetest.NewWorld(f)
	ms := supers(w, 3)
	n := w.Node(7, "n")
	for kind, p := range []protocol.Payload{
		protocol.Node{Record: n.Record}, protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{w.Info(n, 1, start)}}},
		protocol.TunnelNodes{RecordList: protocol.RecordList{Next: n.ID}},
	} {
		b, err := protocol.AppendPayload(nil, p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(kind), byte(p.Command()), b)
	}
	newer, err := protocol.AppendPayload(nil, protocol.WrongRange{Epoch: 1 << 60})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(0), byte(protocol.CmdWrongRange), newer)
	f.Fuzz(func(t *testing.T, kind, cmd byte, payload []byte) {
		cfg := lookupOf(w, ms, n, newRand())
		cfg.Target = dht.Target{Kind: dht.TargetKind(kind % 7), Key: n.ID}
		l := dht.NewLookup(cfg)
		now := start
		tag := 0
		for steps := 0; !l.Done(); steps++ {
			if steps > 5000 {
				t.Fatal("the lookup does not end")
			}
			e := dht.Event{Kind: dht.EventAnswer, Tag: tag, Command: protocol.Command(cmd), Payload: payload}
			if steps%5 == 0 {
				now = now.Add(cfg.Timeout)
				e = dht.Event{Kind: dht.EventTick}
				tag++
			}
			// The map may be asked for again by the very step that takes it.
			for acts := l.Step(now, e); len(acts) > 0; {
				a := acts[0]
				if acts = acts[1:]; a.Kind == dht.ActRefresh {
					acts = append(acts, l.Step(now, dht.Event{Kind: dht.EventMap, Members: ms})...)
				}
			}
		}
	})
}
