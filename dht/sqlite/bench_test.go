package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func benchRecords(b *testing.B, n int) []*protocol.Record {
	w := storetest.NewWorld(b)
	rs := make([]*protocol.Record, n)
	for i := range rs {
		rs[i] = storetest.Parse(b, w.Device(7, fmt.Sprint("bench ", i), 1))
	}
	return rs
}

func benchGet(b *testing.B, budget int64) {
	s := open(b, filepath.Join(b.TempDir(), "node.db"), Options{Budget: budget})
	rs := benchRecords(b, 1000)
	if _, err := s.Put(b.Context(), rs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Get(protocol.TableEndDevice, rs[i%len(rs)].Owner, storetest.Start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetMemory(b *testing.B) { benchGet(b, DefaultBudget) }
func BenchmarkGetDisk(b *testing.B)   { benchGet(b, 1) }

func TestGetMemoryAllocatesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{})
	r := storetest.Parse(t, storetest.NewWorld(t).Device(7, "x", 1))
	if _, err := s.Put(t.Context(), []*protocol.Record{r}); err != nil {
		t.Fatal(err)
	}
	// So many that what the writer's goroutine still does after its commit is less than one a run.
	if n := testing.AllocsPerRun(5000, func() { s.Get(protocol.TableEndDevice, r.Owner, storetest.Start) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPutGroupCommit(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "node.db"), Options{})
	rs := benchRecords(b, 4096)
	// Distinct owners over and over would be the same records; each round uses the next sequence, signed outside the clock.
	var next atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := *rs[int(next.Add(1))%len(rs)]
			r.Sequence = uint64(next.Load())
			if _, err := s.Put(context.Background(), []*protocol.Record{&r}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}

// BenchmarkLoad reads records that are not in memory, so many at a time, each from a page of its own.
func BenchmarkLoad(b *testing.B) {
	const held = 50_000
	s := open(b, filepath.Join(b.TempDir(), "node.db"), Options{Budget: 1 << 20})
	rs := benchRecords(b, held)
	for part := range slices.Chunk(rs, 5000) {
		if _, err := s.Put(b.Context(), part); err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range []int{2, 16, 32, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			qs := make([]dht.Query, n)
			next := 0
			for i := 0; i < b.N; i += n {
				for j := range qs {
					next = (next + 7919) % held
					qs[j] = dht.Query{Table: protocol.TableEndDevice, By: dht.ByOwner, Key: rs[next].Owner, Now: storetest.Start}
				}
				s.Load(qs, 1)
				for j := range qs {
					if _, err := s.Get(qs[j].Table, qs[j].Key, qs[j].Now); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
