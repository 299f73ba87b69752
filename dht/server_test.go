package dht_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

func TestPutStatuses(t *testing.T) {
	var conflicts int
	f := newFabric(t)
	m := f.mesh(1, dht.Config{OnConflict: func(*protocol.Record) { conflicts++ }})[0]
	w := f.world
	op, a, b, revoked := w.OperatorNode(), w.Node(7, "a"), w.Node(7, "b"), w.Node(7, "revoked")
	stranger := w.Node(8, "stranger")
	if s := f.put(op, m, w.Revocation(revoked.ID, 1, protocol.RevokedNode)); s != 0 {
		t.Fatalf("revocation: %d", s)
	}
	info := func(n *storetest.Node, life time.Duration, issued time.Time) []byte {
		return w.Sign(n.Keys.Signing, protocol.Record{
			Table: protocol.TableNodeInfo, Owner: n.ID, Signer: n.ID, Epoch: 1, Sequence: 50, Issued: issued, Expires: issued.Add(life),
		}, nil)
	}
	forged := bytes.Clone(w.Info(a, 60, start))
	forged[len(forged)-1] ^= 1
	evil := storetest.Pair(t, "evil operator").Signing
	byEvil := w.Sign(evil, protocol.Record{
		Table: protocol.TableEndDevice, Owner: protocol.NewID(7, storetest.Key("x")), Signer: protocol.NodeID(0, evil.Public()), Epoch: 1,
		Sequence: 1, Issued: start, Expires: start.Add(time.Hour)}, nil)
	for _, c := range []struct {
		name string
		from *storetest.Node
		raw  []byte
		want int
	}{
		{"owner puts its info", a, w.Info(a, 5, start), 0},
		{"again", a, w.Info(a, 5, start), 0},
		{"older", a, w.Info(a, 4, start), int(protocol.StatusSuperseded)},
		{"same version, other bytes", a, w.Info(a, 5, start.Add(time.Second)), int(protocol.StatusConflict)},
		{"bad signature", a, forged, int(protocol.StatusOwner)},
		{"another node's info, certificate unknown", a, w.Info(b, 1, start), int(protocol.StatusOwner)},
		{"certificate by the operator", op, b.Record, 0},
		{"another node's info, certificate known", a, w.Info(b, 1, start), 0},
		{"signed by another", a, w.Sign(a.Keys.Signing, protocol.Record{Table: protocol.TableNodeInfo, Owner: b.ID, Signer: a.ID, Epoch: 2,
			Issued: start, Expires: start.Add(time.Minute)}, nil), int(protocol.StatusOwner)},
		{"device by a node", a, w.Sign(a.Keys.Signing, protocol.Record{Table: protocol.TableEndDevice, Owner: protocol.NewID(7, storetest.Key("x")),
			Signer: a.ID, Epoch: 1, Issued: start, Expires: start.Add(time.Minute)}, nil), int(protocol.StatusOwner)},
		{"device by an operator that nobody admitted", a, byEvil, int(protocol.StatusOwner)},
		{"lives too long", a, info(a, 16*time.Minute, start), int(protocol.StatusExpired)},
		{"from the future", a, info(a, 10*time.Minute, start.Add(3*time.Minute)), int(protocol.StatusExpired)},
		{"slightly ahead", a, info(a, 10*time.Minute, start.Add(time.Minute)), 0},
		{"expired", a, info(b, time.Minute, start.Add(-time.Hour)), int(protocol.StatusExpired)},
		{"of a revoked node", a, w.Info(revoked, 1, start), int(protocol.StatusRevoked)},
		{"certificate of a revoked node", op, revoked.Record, int(protocol.StatusRevoked)},
		{"by a revoked node", revoked, w.Info(revoked, 1, start), -1},
		{"foreign domain", stranger, w.Info(a, 90, start), -1},
		{"withdrawn revocation", op, w.Static(protocol.Record{Table: protocol.TableRevocation, Tombstone: true, Owner: revoked.ID, Sequence: 9}, nil),
			int(protocol.StatusPolicy)},
		{"garbled revocation", op, w.Revocation(protocol.NewID(7, protocol.Hash{}), 3, protocol.RevokedNode), int(protocol.StatusOwner)},
		{"withdrawal", a, w.Withdrawal(a, 70, start), 0},
		{"older after the withdrawal", a, w.Info(a, 69, start), int(protocol.StatusSuperseded)},
		{"device by the operator", op, w.Device(7, "printer", 1), 0},
		{"operator node again", op, w.OpRecord, 0},
	} {
		if got := f.put(c.from, m, c.raw); got != c.want {
			t.Errorf("%s: status %d, want %d", c.name, got, c.want)
		}
	}
	if conflicts != 1 {
		t.Errorf("%d conflicts reported", conflicts)
	}
	if c, _ := f.say(a, m, protocol.Put{Key: a.ID, Record: []byte("no record")}); c != 0 {
		t.Errorf("garbage answered with %s", c)
	}
	if s := f.putAt(a, m, w.Info(a, 99, start), b.ID); s != int(protocol.StatusOwner) {
		t.Errorf("under another's key: %d", s)
	}
	if st := m.server.Stats(); st["put_conflict"] != 1 || st["drop_foreign_domain"] != 1 || st["drop_revoked"] != 1 || st["drop_malformed"] != 1 {
		t.Errorf("reasons: %v", st)
	}
}

func TestLeavingALocation(t *testing.T) {
	f := newFabric(t)
	m := f.mesh(1, dht.Config{})[0]
	a := f.world.Node(7, "a")
	here, there := storetest.Key("here"), storetest.Key("there")
	if s := f.putAt(a, m, f.world.Info(a, 1, start, here), protocol.NewID(7, here)); s != 0 {
		t.Fatalf("first: %d", s)
	}
	if s := f.putAt(a, m, f.world.Info(a, 2, start, there), protocol.NewID(7, here)); s != 0 {
		t.Errorf("at the location it leaves: %d", s)
	}
	if s := f.putAt(a, m, f.world.Info(a, 3, start, there), protocol.NewID(7, here)); s != int(protocol.StatusOwner) {
		t.Errorf("at a location left long ago: %d", s)
	}
	for l, want := range map[protocol.Hash]int{here: 0, there: 1} {
		_, b := f.say(a, m, protocol.GetTunnelNodes{Location: protocol.NewID(7, l)})
		if list, err := protocol.ParseRecordList(b); err != nil || len(list.Records) != want {
			t.Errorf("%d tunnel-nodes, want %d: %v", len(list.Records), want, err)
		}
	}
}

// A super-node is a stranger to the domains of ranges that are none of its business.
func TestForeignRange(t *testing.T) {
	f := newFleet(t, 2)
	m, other := f.order[0], f.order[1]
	a, loc := f.world.Node(7, "a"), storetest.Key("l")
	high := partition.Range{From: 1 << 60, To: 1<<64 - 1}
	for epoch, fill := range []partition.Range{none, whole} {
		f.install(f.layout(uint64(epoch+1), place{m, whole, none}, place{other, high, fill}), m)
		m.server.SetReady(true)
		m.server.Settled(uint64(epoch + 1))
		for _, raw := range [][]byte{a.Record, f.world.Info(a, 1, start, loc), f.world.Device(7, "p", 1)} {
			f.put(f.world.OperatorNode(), m.member, raw)
		}
		for _, p := range []protocol.Payload{
			protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: protocol.NewID(7, loc)},
			protocol.GetEndDevices{Key: protocol.NewID(7, protocol.Hash{})},
		} {
			if c, _ := f.say(other.node, m.member, p); (c == p.Command()+1) != (fill == whole) || c != 0 && fill == none {
				t.Errorf("%s from a super-node of %s that fills %s: %s", p.Command(), high, fill, c)
			}
		}
	}
}

// Every command that reads, across domains: silence. The operator and members of the range see everything.
func TestForeignDomain(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(2, dht.Config{})
	m := ms[0]
	op, a, stranger := f.world.OperatorNode(), f.world.Node(7, "a"), f.world.Node(8, "stranger")
	loc := storetest.Key("l")
	for _, raw := range [][]byte{a.Record, f.world.Info(a, 1, start, loc), f.world.Device(7, "p", 1)} {
		if s := f.put(op, m, raw); s != 0 {
			t.Fatalf("status %d", s)
		}
	}
	for _, p := range []protocol.Payload{
		protocol.GetNode{ID: a.ID}, protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: protocol.NewID(7, loc)},
		protocol.GetEndDevices{Key: protocol.NewID(7, protocol.Hash{})},
	} {
		for who, n := range map[string]*storetest.Node{"member": a, "operator": op, "super-node": ms[1].node} {
			c, b := f.say(n, m, p)
			if c != p.Command()+1 || len(b) < 200 {
				t.Errorf("%s to %s: %s, %d bytes", p.Command(), who, c, len(b))
			}
		}
		if c, _ := f.say(stranger, m, p); c != 0 {
			t.Errorf("%s to a stranger: %s", p.Command(), c)
		}
	}
	for _, p := range []protocol.Payload{
		protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1}, protocol.Repair{Table: protocol.TableNode, To: 1<<64 - 1},
	} {
		if c, _ := f.say(a, m, p); c != 0 {
			t.Errorf("%s to an ordinary node: %s", p.Command(), c)
		}
		if c, _ := f.say(ms[1].node, m, p); c == 0 {
			t.Errorf("%s to a member: silence", p.Command())
		}
	}
	// Only the operator sends everybody after a new map.
	for n, want := range map[*storetest.Node]protocol.Command{a: 0, ms[1].node: 0, op: protocol.CmdPartitionTransferred} {
		if c, _ := f.say(n, m, protocol.TransferPartition{Epoch: 9}); c != want {
			t.Errorf("TransferPartition by %s: %s", n.ID.Short(), c)
		}
	}
	// Whoever serves all domains may be verified by all.
	if c, b := f.say(stranger, m, protocol.GetNode{ID: ms[1].node.ID}); c != protocol.CmdNode || b == nil {
		t.Errorf("super-node's certificate: %s", c)
	}
	// Of revocations, a node sees its own domain's.
	f.put(op, m, f.world.Revocation(f.world.Node(7, "gone").ID, 1, protocol.RevokedNode))
	for n, want := range map[*storetest.Node]int{a: 1, stranger: 0} {
		_, b := f.say(n, m, protocol.GetRevocations{})
		if l, err := protocol.ParseRecordList(b); err != nil || len(l.Records) != want {
			t.Errorf("%d revocations, want %d: %v", len(l.Records), want, err)
		}
	}
}

func TestOutsideTheRange(t *testing.T) {
	f := newFabric(t)
	m := f.serve(f.world.Node(100, "lonely"), dht.Config{})
	a := f.world.Node(7, "a")
	ask := func(session uint64, p protocol.Payload) protocol.Command {
		v := message(a, m.node, p)
		v.Session = session
		for _, o := range f.deliver(m, v) {
			return o.Command
		}
		return 0
	}
	for _, p := range []protocol.Payload{
		protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: a.ID}, protocol.GetEndDevices{Key: a.ID}, protocol.GetNode{ID: a.ID},
		protocol.Put{Key: a.ID, Record: f.world.Info(a, 1, start)}, protocol.GetSuperNodes{},
	} {
		if c := ask(0, p); c != 0 {
			t.Errorf("%s, signed: %s", p.Command(), c)
		}
		if c := ask(3, p); c != protocol.CmdWrongRange {
			t.Errorf("%s, in a session: %s", p.Command(), c)
		}
	}
	m = f.mesh(1, dht.Config{})[0]
	m.server.SetReady(false)
	if c := ask(3, protocol.GetNodeInfo{ID: a.ID}); c != protocol.CmdWrongRange {
		t.Errorf("before it is ready: %s", c)
	}
	if s := f.put(a, m, f.world.Info(a, 1, start)); s != 0 {
		t.Errorf("put before it is ready: %d", s)
	}
}

func TestPagingWithEveryReplyLimit(t *testing.T) {
	f := newFabric(t)
	ms := f.mesh(9, dht.Config{})
	m := ms[0]
	op, a := f.world.OperatorNode(), f.world.Node(7, "a")
	loc := storetest.Key("l")
	for i := range 9 {
		n := f.world.Node(7, fmt.Sprint("n", i))
		f.put(op, m, n.Record)
		f.put(op, m, f.world.Info(n, 1, start, loc))
		f.put(op, m, f.world.Device(7, fmt.Sprint("d", i), 1))
		f.put(op, m, f.world.Revocation(f.world.Node(7, fmt.Sprint("r", i)).ID, uint64(i+1), protocol.RevokedNode))
	}
	type query func(after protocol.ID, since uint64) protocol.Payload
	for _, c := range []struct {
		from *storetest.Node
		want int
		q    query
	}{
		{a, 9, func(after protocol.ID, _ uint64) protocol.Payload {
			return protocol.GetTunnelNodes{Location: protocol.NewID(7, loc), After: after}
		}},
		{a, 9, func(after protocol.ID, _ uint64) protocol.Payload {
			return protocol.GetEndDevices{Key: protocol.NewID(7, protocol.Hash{}), After: after}
		}},
		{a, 9, func(_ protocol.ID, since uint64) protocol.Payload { return protocol.GetRevocations{Since: since} }},
		{a, 10, func(after protocol.ID, _ uint64) protocol.Payload { return protocol.GetSuperNodes{After: after} }},
		{a, 1, func(after protocol.ID, _ uint64) protocol.Payload { return protocol.GetOperatorNodes{After: after} }},
		{op, 9, func(after protocol.ID, _ uint64) protocol.Payload {
			return protocol.Repair{Table: protocol.TableNode, To: 1<<64 - 1, After: after}
		}},
	} {
		for limit := 0; limit <= 1148; limit++ {
			seen := map[string]bool{}
			var after protocol.ID
			var since uint64
			for pages := 0; ; pages++ {
				v := message(c.from, m.node, c.q(after, since))
				v.ReplyLimit = limit
				out := f.deliver(m, v)
				if len(out) == 0 {
					if limit > 600 {
						t.Fatalf("%s, limit %d: silence", v.Command, limit)
					}
					break
				}
				if len(out[0].Payload) > limit {
					t.Fatalf("%s, limit %d: reply of %d bytes", v.Command, limit, len(out[0].Payload))
				}
				l, err := protocol.ParseRecordList(out[0].Payload)
				if err != nil || pages > 60 {
					t.Fatalf("%s, limit %d: page %d: %v", v.Command, limit, pages, err)
				}
				for _, r := range l.Records {
					if seen[string(r)] {
						t.Fatalf("%s, limit %d: twice the same record", v.Command, limit)
					}
					seen[string(r)] = true
					var rv protocol.RevocationValue
					if v.Command == protocol.CmdGetRevocations {
						if err := protocol.Unmarshal(storetest.Parse(t, r).Value, &rv); err != nil || rv.Number <= since {
							t.Fatalf("limit %d: number %d after %d: %v", limit, rv.Number, since, err)
						}
						since = rv.Number
					}
				}
				if l.Next.IsZero() {
					if len(seen) != c.want {
						t.Fatalf("%s, limit %d: %d records, want %d", v.Command, limit, len(seen), c.want)
					}
					break
				}
				after = l.Next
			}
		}
	}
}

// A super-node that starts again shuts out whom it shut out before: everything of the node hears of it, not the server alone.
func TestRevocationsOutliveARestart(t *testing.T) {
	f := newFabric(t)
	m := f.mesh(1, dht.Config{})[0]
	gone := f.world.Node(7, "gone")
	if s := f.put(f.world.OperatorNode(), m, f.world.Revocation(gone.ID, 1, protocol.RevokedNode)); s != 0 {
		t.Fatalf("revocation: %d", s)
	}
	var heard []protocol.ID
	again := f.serve(m.node, dht.Config{Store: m.store, OnRevocation: func(r *protocol.Record, _ protocol.RevocationValue) {
		heard = append(heard, r.Owner)
	}})
	if !again.server.Revoked(gone.ID) || len(heard) != 1 || heard[0] != gone.ID {
		t.Errorf("after a restart: revoked %v, heard %v", again.server.Revoked(gone.ID), heard)
	}
}
