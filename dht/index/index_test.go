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
	if x.Fill(Loaded{r, cold.Raw()}); !x.Cached(q, 1) {
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
