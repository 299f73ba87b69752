package dht_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"culvert/dht"
	"culvert/dht/sqlite"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 9)) }

// lookups is a server on SQLite with n nodes, two at a location, and queries for them that are answered into one scratch.
func lookups(b testing.TB, n int, budget int64) (m *member, asks map[protocol.Command][]*protocol.Verified) {
	f := newFabric(b)
	st, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "node.db"), sqlite.Options{Budget: budget})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	m = f.serve(f.world.Node(100, "super"), dht.Config{Store: st, Operator: true})
	asks = make(map[protocol.Command][]*protocol.Verified)
	var scratch protocol.Scratch
	var rs []*protocol.Record
	for i := range n {
		a, loc := f.world.Node(7, fmt.Sprint(i)), storetest.Key(fmt.Sprint("l", i/2))
		rs = append(rs, storetest.Parse(b, a.Record), storetest.Parse(b, f.world.Info(a, 1, start, loc)))
		for _, p := range []protocol.Payload{protocol.GetNode{ID: a.ID}, protocol.GetNodeInfo{ID: a.ID}, protocol.GetTunnelNodes{Location: protocol.NewID(7, loc)}} {
			v := message(a, m.node, p)
			v.Scratch = &scratch
			asks[p.Command()] = append(asks[p.Command()], v)
		}
	}
	if _, err := st.Put(b.Context(), rs); err != nil {
		b.Fatal(err)
	}
	return m, asks
}

// allocRuns is so many that what else allocates meanwhile, a pool that a collection has emptied say, is less than one a run.
const allocRuns = 5000

// A query that is answered from memory allocates nothing.
func TestLookupsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector makes pools forget")
		return
	}
	m, asks := lookups(t, 10, 0)
	for c, h := range m.server.Handlers() {
		if len(asks[c]) == 0 {
			continue
		}
		v := asks[c][3]
		if n := testing.AllocsPerRun(allocRuns, func() {
			m.server.Prefetch(asks[c]) // as a loop does with a batch
			if !m.server.Cached(v) || len(h(start, v)) != 1 || len(v.Payload) < 30 {
				t.Fatal("no answer")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c, n)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	m, asks := lookups(b, 1000, 0)
	for c, l := range asks {
		h := m.server.Handlers()[c]
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if v := l[i%len(l)]; !m.server.Cached(v) || len(h(start, v)) != 1 {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// Lookups of which none is in memory: one by one, and 64 at a time.
func BenchmarkLookupMiss(b *testing.B) {
	const budget = 100 << 10 // less than is asked for before the same is asked for again
	m, asks := lookups(b, 1000, budget)
	for c, l := range asks {
		h := m.server.Handlers()[c]
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", c, n), func(b *testing.B) {
				b.ReportAllocs()
				vs := make([]*protocol.Verified, n)
				for i := 0; b.Loop(); i++ {
					if i%n > 0 {
						continue
					}
					for j := range vs {
						vs[j] = l[(i+j)*7%len(l)]
					}
					m.server.Load(vs)
					for _, v := range vs {
						if len(h(start, v)) != 1 {
							b.Fatal("no answer")
						}
					}
				}
			})
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
