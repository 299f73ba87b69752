package index

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// A whole batch is prepared before any of it is taken, as a store does it, with owners that come in it again and again, in other rows
// and under other keys: the digests are those of what is held in the end, as the package's text defines them.
func TestTakingWhatWasPreparedBefore(t *testing.T) {
	w := storetest.NewWorld(t)
	x, one := New(0), New(0)
	last := make(map[protocol.ID]*protocol.Record)
	rows := make(map[protocol.ID]int64)
	row := int64(0)
	for batch := range 20 {
		var l []Prepared
		var rs []*protocol.Record
		for i := range 30 {
			who := (batch*7 + i) % 50 % (5 + batch)
			n := w.Node(7, fmt.Sprint(who))
			keys := [][]protocol.Hash{{storetest.Key("a")}, {storetest.Key("b"), n.ID.Hash()}, {storetest.Key("b"), storetest.Key("b")}, {}}[(who+batch/2+i/25)%4] // often as before
			r := storetest.Parse(t, w.Info(n, uint64(100*batch+i+1), storetest.Start.Add(time.Duration(batch)*time.Second), keys...))
			rs, l = append(rs, r), append(l, Prepare(r))
		}
		for i, p := range l {
			row++
			x.Take(p, row)
			one.ApplyAt(rs[i], row)
			last[rs[i].Owner], rows[rs[i].Owner] = rs[i], row
		}
	}
	if x.Len() != len(last) || x.Counts(7) != one.Counts(7) || x.resident != one.resident {
		t.Errorf("%d records of %d, %+v and %+v, %d and %d bytes", x.Len(), len(last), x.Counts(7), one.Counts(7), x.resident, one.resident)
	}
	for owner, r := range last {
		if at, held := x.Row(r.Table, owner); !held || at != rows[owner] {
			t.Errorf("row %d, wanted %d", at, rows[owner])
		}
		if res, _ := x.Compare(r); res.Outcome != dht.Same {
			t.Errorf("outcome %d for what was taken last", res.Outcome)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		from, to := uint64(0), uint64(math.MaxUint64)
		if i > 0 {
			from, to = 7<<32|uint64(rnd.Uint32()), 7<<32|uint64(rnd.Uint32())
		}
		want := digestOf(last, from, to)
		if got := x.Digest(protocol.TableNodeInfo, from, to); got != want || i == 0 && got.Count < uint64(len(last)) {
			t.Errorf("%x to %x: %+v, wanted %+v", from, to, got, want)
		}
		if got := one.Digest(protocol.TableNodeInfo, from, to); got != want {
			t.Errorf("one by one, %x to %x: %+v, wanted %+v", from, to, got, want)
		}
	}
}

// digestOf computes a digest without an index.
func digestOf(held map[protocol.ID]*protocol.Record, from, to uint64) protocol.DigestPart {
	d := protocol.DigestPart{From: from, To: to}
	for _, r := range held {
		hash := sha256.Sum256(r.Raw())
		counted := make(map[protocol.ID]bool)
		for _, k := range r.Keys() {
			if counted[k] || k.Position() < from || k.Position() > to {
				continue
			}
			counted[k] = true
			d.Count++
			h := sha256.Sum256(append(k[:], hash[:]...))
			for i := range d.Sum {
				d.Sum[i] ^= h[i]
			}
		}
	}
	return d
}
