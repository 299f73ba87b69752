package dht_test

import (
	"fmt"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func TestQuotaOfOneDomainLeavesOthersAlone(t *testing.T) {
	f := newFabric(t)
	limits := dht.Limits{DomainRecords: 30, PerEnrolled: -1}
	m := f.mesh(1, dht.Config{Limits: limits})[0]
	op := f.world.OperatorNode()
	counted := map[int]int{}
	var first *storetest.Node
	for i := range 300 {
		n := f.world.Node(7, fmt.Sprint("flood ", i))
		if first == nil {
			first = n
		}
		counted[f.put(n, m, f.world.Info(n, 1, start))]++
	}
	if counted[0] != 15 || counted[int(protocol.StatusQuota)] != 285 { // each brings its certificate
		t.Errorf("flood: %v", counted)
	}
	if s := f.put(first, m, f.world.Info(first, 2, start)); s != 0 {
		t.Errorf("a replacement at the limit: %d", s)
	}
	if s := f.put(op, m, f.world.Device(7, "printer", 1)); s != 0 {
		t.Errorf("the operator's record at the limit: %d", s)
	}
	for i := range 10 {
		n := f.world.Node(8, fmt.Sprint("calm ", i))
		if s := f.put(n, m, f.world.Info(n, 1, start)); s != 0 {
			t.Errorf("another domain: %d", s)
		}
	}
	// What has expired is collected before anybody is refused.
	f.advance(11 * time.Minute)
	n := f.world.Node(7, "later")
	if s := f.put(n, m, f.world.Info(n, 1, f.clock())); s != 0 {
		t.Errorf("after the others have expired: %d", s)
	}
}

// A domain of which the records are as long as can be runs into its bytes before its number, and may still replace what it has by
// what is no longer.
func TestQuotaOfBytes(t *testing.T) {
	f := newFabric(t)
	m := f.mesh(1, dht.Config{Limits: dht.Limits{DomainRecords: 40, PerEnrolled: -1}})[0]
	info := func(n *storetest.Node, sequence uint64, size int) []byte {
		return f.world.Sign(n.Keys.Signing, protocol.Record{
			Table: protocol.TableNodeInfo, Owner: n.ID, Signer: n.ID, Epoch: 1, Sequence: sequence, Issued: start, Expires: start.Add(10 * time.Minute),
		}, make([]byte, size))
	}
	const long = 650
	counted := map[int]int{}
	var first *storetest.Node
	for i := range 30 {
		n := f.world.Node(7, fmt.Sprint("long ", i))
		if first == nil {
			first = n
		}
		counted[f.put(n, m, info(n, 1, long))]++
	}
	c := m.store.Counts(7)
	if counted[0] == 0 || counted[int(protocol.StatusQuota)] == 0 || c.Records >= 40 || c.Bytes > 40*448+300 {
		t.Errorf("%v, %+v", counted, c) // a certificate comes with the record and is not weighed
	}
	for i, size := range []int{long, 10} {
		if s := f.put(first, m, info(first, uint64(i+2), size)); s != 0 {
			t.Errorf("replaced by one of %d bytes: %d", size, s)
		}
	}
	last := f.world.Node(7, "short")
	if s := f.put(last, m, f.world.Info(last, 1, start)); s != 0 {
		t.Errorf("after one was made shorter: %d", s)
	}
	calm := f.world.Node(8, "calm")
	if s := f.put(calm, m, info(calm, 1, long)); s != 0 {
		t.Errorf("another domain: %d", s)
	}
}

// A domain writes ten times its quota, of records and of puts a second, before and while another does what it always does: the
// other loses nothing and is refused nothing, and the flood is shed before it takes a worker.
func TestFloodHurtsItselfAlone(t *testing.T) {
	f := newFabric(t)
	const quota, rate = 40, 20
	m := f.mesh(1, dht.Config{Limits: dht.Limits{DomainRecords: quota, PerEnrolled: -1, NodePuts: 1, NodeBurst: 5, DomainPuts: rate, DomainBurst: rate}})[0]
	var calm, flood []*storetest.Node
	for i := range 10 {
		calm = append(calm, f.world.Node(8, fmt.Sprint("calm ", i)))
	}
	for i := range 10 * quota {
		flood = append(flood, f.world.Node(7, fmt.Sprint("flood ", i)))
	}
	shed, worked := 0, 0
	for round := range uint64(20) {
		for _, n := range flood[:10*rate] {
			raw := f.world.Info(n, round+1, f.clock())
			if _, refused := m.server.Overdrawn(f.clock(), message(n, m.node, protocol.Put{Key: n.ID, Record: raw})); refused {
				shed++
				continue
			}
			worked++
			f.put(n, m, raw)
		}
		flood = append(flood[10*rate:], flood[:10*rate]...)
		if round%4 == 0 {
			for _, n := range calm {
				raw := f.world.Info(n, round+1, f.clock())
				if _, refused := m.server.Overdrawn(f.clock(), message(n, m.node, protocol.Put{Key: n.ID, Record: raw})); refused {
					t.Fatalf("round %d: shed with the flood", round)
				}
				if s := f.put(n, m, raw); s != 0 {
					t.Fatalf("round %d: %d", round, s)
				}
			}
		}
		f.advance(time.Second)
	}
	for i, n := range calm {
		if _, err := m.store.Get(protocol.TableNodeInfo, n.ID, f.clock()); err != nil {
			t.Errorf("record %d of the other domain: %v", i, err)
		}
	}
	if c := m.store.Counts(7); c.Records > quota+1 || worked > 21*rate || shed < 8*10*rate {
		t.Errorf("the flood has %d records of %d; %d puts took a worker, %d were shed", c.Records, quota, worked, shed)
	}
}

func TestRates(t *testing.T) {
	f := newFabric(t)
	m := f.mesh(1, dht.Config{Limits: dht.Limits{NodePuts: 1, NodeBurst: 5, DomainPuts: 1, DomainBurst: 12, Senders: 8}})[0]
	burst := func(n *storetest.Node) (ok int) {
		for i := range 20 {
			if f.put(n, m, f.world.Info(n, uint64(i+1), start)) == 0 {
				ok++
			}
		}
		return ok
	}
	if n := burst(f.world.Node(7, "a")); n != 5 {
		t.Errorf("one node: %d", n)
	}
	if n := burst(f.world.Node(7, "b")) + burst(f.world.Node(7, "c")); n != 7 {
		t.Errorf("the rest of its domain: %d", n)
	}
	if n := burst(f.world.Node(8, "d")); n != 5 {
		t.Errorf("another domain: %d", n)
	}
	f.advance(time.Minute)
	for i := range 40 { // more senders than are remembered
		if n := burst(f.world.Node(protocol.Domain(1000+i), "many")); n != 5 {
			t.Errorf("sender %d: %d", i, n)
		}
	}
}
