package index

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
	"culvert/protocol/key"

	"pgregory.net/rapid"
)

func TestSetIsASortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sum := func(v int) Sum { return Sum{byte(v), byte(v >> 8), 1} }
		s := set[int]{compare: func(a, b int) int { return cmp.Compare(a, b) }, sum: sum}
		var plain []int
		for range rapid.IntRange(0, 4).Draw(t, "rounds") {
			from, n := rapid.IntRange(0, 2000).Draw(t, "from"), rapid.IntRange(1, 900).Draw(t, "n")
			step := rapid.IntRange(1, 3).Draw(t, "step")
			add := rapid.Bool().Draw(t, "add")
			for v := from; v < from+n*step; v += step {
				i, ok := slices.BinarySearch(plain, v)
				switch {
				case add:
					if s.insert(v); !ok {
						plain = slices.Insert(plain, i, v)
					}
				default:
					if s.remove(v); ok {
						plain = slices.Delete(plain, i, i+1)
					}
				}
			}
		}
		lo, hi := rapid.IntRange(-1, 5000).Draw(t, "lo"), rapid.IntRange(-1, 5000).Draw(t, "hi")
		var got, want []int
		var sums Sum
		s.from(func(v int) bool { return v < lo }, func(v int) bool { got = append(got, v); return v < 4500 })
		n, total := s.digest(func(v int) bool { return v < lo }, func(v int) bool { return v <= hi })
		count := 0
		for _, v := range plain {
			if v >= lo && (len(want) == 0 || want[len(want)-1] < 4500) {
				want = append(want, v)
			}
			if v >= lo && v <= hi {
				count++
				sums.xor(sum(v))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("walked %d, want %d", len(got), len(want))
		}
		if int(n) != count || total != sums {
			t.Fatalf("digest of %d…%d: %d elements, want %d", lo, hi, n, count)
		}
	})
}

var start = time.UnixMilli(1_800_000_000_000)

func device(t testing.TB, s *key.Signing, i int) *protocol.Record {
	t.Helper()
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableEndDevice, Owner: protocol.NewID(7, protocol.Hash{byte(i), byte(i >> 8), 1}), Signer: protocol.NodeID(0, s.Public()),
		Epoch: 1, Sequence: 1, Issued: start, Expires: start.Add(time.Hour), Value: fmt.Append(nil, i),
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is read stays in memory, what is not goes, and the budget holds.
func TestBudget(t *testing.T) {
	s, err := key.NewSigning(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(device(t, s, 0).Raw()))
	x := New(100 * size)
	hot := device(t, s, 0)
	x.Apply(hot)
	for i := 1; i < 1000; i++ {
		x.Apply(device(t, s, i))
		if r, ok := x.Get(protocol.TableEndDevice, hot.Owner, start); !ok || r.Raw == nil {
			t.Fatalf("what is read all the time went out after %d", i)
		}
		if x.resident > x.budget || len(x.queue) > 64+2*(i+1) {
			t.Fatalf("%d bytes resident, queue of %d", x.resident, len(x.queue))
		}
	}
	if n := x.missing.Load(); n < 880 || int(n)+len(x.Resident()) != 1000 {
		t.Errorf("%d missing, %d resident", n, len(x.Resident()))
	}
	cold := device(t, s, 1)
	q := dht.Query{Table: protocol.TableEndDevice, By: dht.ByKey, Key: cold.Owner, Now: start}
	if x.Cached(q, 1) || x.Whole() {
		t.Fatal("a record on disk counts as cached")
	}
	r, ok := x.Get(protocol.TableEndDevice, cold.Owner, start)
	if !ok || r.Raw != nil {
		t.Fatalf("cold record: %v %v", r, ok)
	}
	if x.Fill(r.Read(cold.Raw())); !x.Cached(q, 1) {
		t.Error("a record that was fetched is not cached")
	}
	for i := range 1000 {
		d := device(t, s, i)
		x.Remove(d.Table, d.Owner, dht.VersionOf(d))
	}
	if x.resident != 0 || x.missing.Load() != 0 || x.Counts(7) != (dht.Counts{}) || len(x.expiry.chunks) != 0 {
		t.Errorf("emptied: %d bytes, %d missing", x.resident, x.missing.Load())
	}
}

// What was fetched for one asker goes before what a second one has read since.
func TestFetchedForOne(t *testing.T) {
	s, err := key.NewSigning(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	const room = 50
	x := New(room * int64(len(device(t, s, 100).Raw())))
	for i := 100; i < 300; i++ {
		x.Apply(device(t, s, i))
	}
	cached := func(d *protocol.Record) bool {
		return x.Cached(dht.Query{Table: d.Table, By: dht.ByOwner, Key: d.Owner, Now: start}, 1)
	}
	once, twice, replaced := device(t, s, 100), device(t, s, 101), device(t, s, 102)
	for i, d := range []*protocol.Record{twice, once} { // in this order, so that it is not age that decides
		l := x.Missing(dht.Query{Table: d.Table, By: dht.ByOwner, Key: d.Owner, Now: start}, 1, nil)
		if len(l) != 1 || cached(d) {
			t.Fatalf("%d missing", len(l))
		}
		l[0].Raw = d.Raw()
		x.Fill(l...)
		for range 2 - i {
			x.Get(d.Table, d.Owner, start)
		}
	}
	stale := x.Missing(dht.Query{Table: replaced.Table, By: dht.ByOwner, Key: replaced.Owner, Now: start}, 1, nil)
	stale[0].Raw = replaced.Raw()
	x.Remove(replaced.Table, replaced.Owner, dht.VersionOf(replaced))
	before := x.resident
	if x.Fill(stale...); x.resident != before || !cached(once) {
		t.Error("bytes of what has gone were taken in")
	}
	for i := 300; cached(once); i++ {
		if i == 300+2*room {
			t.Fatal("what one has read stays")
		}
		x.Apply(device(t, s, i))
	}
	if !cached(twice) {
		t.Error("what two have read went with what one has read")
	}
}
