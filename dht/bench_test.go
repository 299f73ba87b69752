package dht_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 9)) }

func BenchmarkGetNodeInfo(b *testing.B) {
	f := newFabric(b)
	m := f.mesh(1, dht.Config{})[0]
	var asks []*protocol.Verified
	for i := range 1000 {
		n := f.world.Node(7, fmt.Sprint(i))
		if s := f.put(n, m, f.world.Info(n, 1, start, storetest.Key("l"))); s != 0 {
			b.Fatal(s)
		}
		asks = append(asks, message(n, m.node, protocol.GetNodeInfo{ID: n.ID}))
	}
	h := m.server.Handlers()[protocol.CmdGetNodeInfo]
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if v := asks[i%len(asks)]; !m.server.Cached(v) || len(h(start, v)) != 1 {
			b.Fatal("no answer")
		}
	}
}

func BenchmarkPutNodeInfo(b *testing.B) {
	f := newFabric(b)
	m := f.mesh(1, dht.Config{Limits: dht.Limits{NodePuts: 1e9, NodeBurst: 1e9, DomainPuts: 1e9, DomainBurst: 1e9}})[0]
	n := f.world.Node(7, "a")
	var puts []*protocol.Verified
	for i := range b.N {
		puts = append(puts, message(n, m.node, protocol.Put{Key: n.ID, Record: f.world.Info(n, uint64(i+1), start)}))
	}
	h := m.server.Handlers()[protocol.CmdPut]
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if len(h(start, puts[i])) != 1 {
			b.Fatal("no answer")
		}
	}
}
