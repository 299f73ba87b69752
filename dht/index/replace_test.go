package index

import (
	"fmt"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/protocol"
)

// Whatever came before, a table sums to what it holds: replaced where it was, moved, with a key named twice, and withdrawn.
func TestDigestAfterReplacing(t *testing.T) {
	w := storetest.NewWorld(t)
	x, fresh := New(0), New(0)
	for i := range 600 {
		n := w.Node(7, fmt.Sprint(i))
		a, b := storetest.Key(fmt.Sprint("a", i/2)), storetest.Key(fmt.Sprint("b", i/3))
		versions := [][]protocol.Hash{{a}, {a}, {a, b}, {b, a}, {b, b}, {b, b, n.ID.Hash()}, {}}
		versions = versions[:1+i%len(versions)]
		for s, l := range versions {
			r := storetest.Parse(t, w.Info(n, uint64(s+1), storetest.Start.Add(time.Duration(s)*time.Second), l...))
			if x.Apply(r); s == len(versions)-1 {
				fresh.Apply(r)
			}
		}
	}
	for _, cut := range []uint64{1 << 61, 1 << 63, 1<<64 - 1} {
		got, want := x.Digest(protocol.TableNodeInfo, 0, cut), fresh.Digest(protocol.TableNodeInfo, 0, cut)
		if got != want || cut == 1<<64-1 && got.Count == 0 {
			t.Errorf("up to %x: %d sum %x, want %d sum %x", cut, got.Count, got.Sum, want.Count, want.Sum)
		}
	}
	if x.Counts(7) != fresh.Counts(7) || len(x.expiry.chunks) == 0 || x.resident != fresh.resident {
		t.Errorf("counts %v and %v", x.Counts(7), fresh.Counts(7))
	}
}

func BenchmarkApplyReplacing(b *testing.B) {
	w := storetest.NewWorld(b)
	x := New(0)
	var rs []*protocol.Record
	for i := range 1000 {
		rs = append(rs, storetest.Parse(b, w.Info(w.Node(7, fmt.Sprint(i)), 1, storetest.Start, storetest.Key("l"))))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Apply(rs[i%len(rs)])
	}
}
