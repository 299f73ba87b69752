package index

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
	"culvert/protocol/key"

	"pgregory.net/rapid"
)

// Whatever is put in and taken out, among hashes that are the same or next to each other: what is there is found, once, and
// nothing else is.
func TestPartHoldsWhatIsPutIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p part
		held := make(map[*entry]uint64)
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			if n := len(held); n > 0 && rapid.IntRange(0, 2).Draw(t, "take") == 0 {
				l := slices.SortedFunc(maps.Keys(held), func(a, b *entry) int { return int(a.number) - int(b.number) })
				e := l[rapid.IntRange(0, n-1).Draw(t, "which")]
				p.free(p.find(held[e], e))
				delete(held, e)
			} else {
				e := &entry{number: uint64(n)}
				held[e] = uint64(rapid.SampledFrom([]int{0, 1, 2, 5, 7, 15, 16, 31, 63}).Draw(t, "hash"))
				p.put(place{held[e], e})
			}
			found := 0
			for i := range p.places {
				if e := p.places[i].e; e != nil {
					if found++; p.find(held[e], e) != i {
						t.Fatalf("%d is not found where it is", e.number)
					}
				}
			}
			if found != len(held) || p.used != found || 2*found > len(p.places) {
				t.Fatalf("%d of %d places taken, %d counted, want %d", found, len(p.places), p.used, len(held))
			}
		}
	})
}

var someKey = func() *key.Signing {
	s, err := key.NewSigning(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return s
}()

type fataler interface{ Fatal(...any) }

// placed is a record of which nobody asks who signed it: the index takes what its store has checked.
func placed(t fataler, owner protocol.ID, sequence uint64, life time.Duration, lookups ...protocol.Hash) *protocol.Record {
	return valued(t, owner, sequence, life, []byte{1, 2, 3}, lookups...)
}

func valued(t fataler, owner protocol.ID, sequence uint64, life time.Duration, value []byte, lookups ...protocol.Hash) *protocol.Record {
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableEndDevice, Owner: owner, Signer: protocol.NodeID(0, someKey.Public()), Epoch: 1, Sequence: sequence, Issued: start, Expires: start.Add(life),
		Lookups: lookups, Value: value,
	}, someKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// walked is what a query for a key finds by walking the ordered set.
func walked(x *Index, q dht.Query) (l []protocol.ID) {
	x.tables[q.Table].keys.from(func(p pair) bool { return p.key.Compare(q.Key) < 0 }, func(p pair) bool {
		if p.key == q.Key && p.e.owner.Compare(q.After) > 0 && p.e.expires > q.Now.UnixMilli() {
			l = append(l, p.e.owner)
		}
		return p.key == q.Key
	})
	return l
}

// What is found under a key is what the records held say, page by page, and what a walk of the ordered set finds: with keys that
// nobody, one, few and many share, an owner's ID among them, and records replaced, moved, withdrawn, expired and out of memory.
func TestUnderAKey(t *testing.T) {
	var owners []protocol.ID
	var shared []protocol.Hash
	for i := range 14 {
		owners = append(owners, protocol.NewID(protocol.Domain(7+i%2), protocol.Hash{byte(i / 2), 9}))
	}
	shared = append(shared, owners[4].Hash(), protocol.Hash{1, 8}, protocol.Hash{2, 8}, protocol.Hash{3, 8})
	rapid.Check(t, func(t *rapid.T) {
		x := New(rapid.SampledFrom([]int64{0, 1500}).Draw(t, "budget"))
		held := make(map[protocol.ID]*protocol.Record)
		for step := range rapid.IntRange(0, 60).Draw(t, "steps") {
			o := rapid.SampledFrom(owners).Draw(t, "owner")
			if r := held[o]; r != nil && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				x.Remove(r.Table, o, dht.VersionOf(r))
				delete(held, o)
				continue
			}
			l := rapid.SliceOfN(rapid.SampledFrom(shared), 0, 3).Draw(t, "keys")
			life := rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(t, "life")
			held[o] = placed(t, o, uint64(step+1), life, l...)
			x.Apply(held[o])
		}
		all := []dht.Key{{Table: protocol.TableEnd}, {Table: protocol.TableNode, ID: owners[0]}}
		for i := range 70 {
			all = append(all, dht.Key{Table: protocol.TableEndDevice, By: dht.By(i%2) * dht.ByOwner, ID: owners[i%len(owners)]})
		}
		x.Prefetch(all) // which changes nothing
		dst := make([]Ref, rapid.IntRange(1, 6).Draw(t, "page"))
		for _, k := range append(slices.Clone(owners), protocol.NewID(7, shared[1]), protocol.NewID(8, shared[2]), protocol.NewID(9, shared[1])) {
			q := dht.Query{Table: protocol.TableEndDevice, By: dht.ByKey, Key: k, Now: start.Add(rapid.SampledFrom([]time.Duration{0, 2 * time.Minute}).Draw(t, "now"))}
			var got, want []protocol.ID
			for _, o := range owners {
				r := held[o]
				if r != nil && r.Expires.After(q.Now) && (o == k || o.Domain() == k.Domain() && slices.Contains(r.Lookups, k.Hash())) {
					want = append(want, o)
				}
			}
			slices.SortFunc(want, protocol.ID.Compare)
			if w := walked(x, q); !slices.Equal(w, want) {
				t.Fatalf("the ordered set has %d under %s, want %d", len(w), k.Short(), len(want))
			}
			for n := len(dst); n == len(dst); {
				n = x.Select(q, dst)
				for _, r := range dst[:n] {
					if h := held[r.Owner]; h == nil || r.Version != dht.VersionOf(h) || r.Raw != nil && string(r.Raw) != string(h.Raw()) {
						t.Fatalf("%s is not what is held", r.Owner.Short())
					}
					got, q.After = append(got, r.Owner), r.Owner
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("under %s: %d found, want %d", k.Short(), len(got), len(want))
			}
			r, ok := x.Get(q.Table, k, start)
			if h := held[k]; ok != (h != nil) || ok && r.Version != dht.VersionOf(h) {
				t.Fatalf("%s: own record found: %v", k.Short(), ok)
			}
		}
		for o, r := range held {
			x.Remove(r.Table, o, dht.VersionOf(r))
		}
		left := &x.tables[protocol.TableEndDevice].byKey
		for i := 0; left.parts != nil && i < len(left.parts); i++ {
			if p := &left.parts[i]; p.used != 0 || p.places != nil || len(left.crowds) > 0 {
				t.Fatal("something is left")
			}
		}
	})
}

// As many records as do not fit a cache, two of each key.
func manyPairs(b *testing.B) (*Index, []protocol.ID) {
	const n = 100_000
	x := New(1 << 30)
	keys := make([]protocol.ID, n/2)
	for i := range n {
		h := protocol.Hash(sha(i/2, 'l'))
		keys[i/2] = protocol.NewID(7, h)
		x.Apply(placed(b, protocol.NewID(7, protocol.Hash(sha(i, 'o'))), 1, time.Hour, h))
	}
	x.Settle()
	return x, keys
}

func BenchmarkUnderAKey(b *testing.B) {
	x, keys := manyPairs(b)
	var dst [16]dht.Item
	q := dht.Query{Table: protocol.TableEndDevice, By: dht.ByKey, Now: start}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Key = keys[i*7919%len(keys)]
		if k, whole := x.Items(q, dst[:]); k != 2 || !whole {
			b.Fatalf("%d found", k)
		}
	}
}

// A batch of questions as a server takes it: the time is of one.
func BenchmarkUnderKeysTogether(b *testing.B) {
	x, keys := manyPairs(b)
	var dst [16]dht.Item
	var batch [prefetchMost]dht.Key
	q := dht.Query{Table: protocol.TableEndDevice, By: dht.ByKey, Now: start}
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i % len(batch)
		if at == 0 {
			for k := range batch {
				batch[k] = dht.Key{Table: q.Table, By: q.By, ID: keys[(i+k)*7919%len(keys)]}
			}
			x.Prefetch(batch[:])
		}
		q.Key = batch[at].ID
		k, _ := x.Items(q, dst[:])
		for out = out[:0]; k > 0; k-- {
			out = append(out, dst[k-1].Raw...)
		}
	}
}

func sha(i int, kind byte) [32]byte {
	return sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(i)), kind))
}
