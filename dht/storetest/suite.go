package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Opened is a store under test. Reopen closes it and opens it again with what it kept; a store without a disk returns itself.
type Opened struct {
	dht.Store
	Reopen func() Opened
}

// Run holds the stores that open makes, each empty, to everything that dht.Store promises.
func Run(t *testing.T, open func(t *testing.T) Opened) {
	for name, f := range map[string]func(*testing.T, *World, Opened){
		"versions": versions, "never back": neverBack, "lookup keys": lookupKeys, "domain": byDomain, "revocations": revocations,
		"positions": byPosition, "digest": digests, "counts": counts, "expire": expire, "sequence": sequences,
		"settings": settings, "discard": discard, "concurrent": concurrent, "close": closed, "model": model, "load": load,
	} {
		t.Run(name, func(t *testing.T) { f(t, NewWorld(t), open(t)) })
	}
}

func put(t testing.TB, s dht.Store, raws ...[]byte) []dht.Result {
	t.Helper()
	rs := make([]*protocol.Record, len(raws))
	for i, raw := range raws {
		rs[i] = Parse(t, raw)
	}
	out, err := s.Put(t.Context(), rs)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func want(t testing.TB, s dht.Store, raw []byte, o dht.Outcome) {
	t.Helper()
	if got := put(t, s, raw)[0].Outcome; got != o {
		t.Errorf("outcome %d, want %d", got, o)
	}
}

func all(t testing.TB, s dht.Store, q dht.Query, page int) (owners []protocol.ID) {
	t.Helper()
	dst := make([]dht.Item, page)
	for {
		n, err := s.Select(q, dst)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range dst[:n] {
			r := Parse(t, it.Raw)
			if r.Owner != it.Owner || r.Table != q.Table {
				t.Fatalf("item of %v holds %v of %s", it.Owner, r.Owner, r.Table)
			}
			owners = append(owners, it.Owner)
			var v protocol.RevocationValue
			if q.By == dht.ByNumber && protocol.Unmarshal(r.Value, &v) == nil {
				q.Since = v.Number
			}
		}
		if n < page {
			return owners
		}
		q.After = dst[n-1].Owner
	}
}

func versions(t *testing.T, w *World, s Opened) {
	n := w.Node(7, "a")
	v1, v2, v2b := w.Info(n, 1, Start), w.Info(n, 2, Start), w.Info(n, 2, Start.Add(time.Second))
	want(t, s, v2, dht.Stored)
	want(t, s, v2, dht.Same)
	want(t, s, v2b, dht.Conflict)
	want(t, s, v1, dht.Superseded)
	s = s.Reopen()
	want(t, s, v2, dht.Same)
	want(t, s, v2b, dht.Conflict)
	want(t, s, v1, dht.Superseded)
	got, err := s.Get(protocol.TableNodeInfo, n.ID, Start)
	if err != nil || !bytes.Equal(got, v2) {
		t.Errorf("get: %x, %v", got, err)
	}
	if res := put(t, s, v1, w.Info(n, 3, Start), w.Info(n, 4, Start), w.Info(n, 3, Start)); res[0].Outcome != dht.Superseded ||
		res[1].Outcome != dht.Stored || res[2].Outcome != dht.Stored || res[3].Outcome != dht.Superseded || res[3].Held.Sequence != 4 {
		t.Errorf("one batch: %v", res)
	}
	if _, err := s.Get(protocol.TableNode, n.ID, Start); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("other table: %v", err)
	}
	if _, err := s.Get(protocol.TableNodeInfo, n.ID, Start.Add(time.Hour)); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
}

func neverBack(t *testing.T, w *World, s Opened) {
	n := w.Node(7, "a")
	old, tomb := w.Info(n, 5, Start.Add(2*time.Minute)), w.Withdrawal(n, 6, Start)
	put(t, s, w.Info(n, 4, Start), tomb)
	for step, f := range []func(){
		func() {},
		func() { s = s.Reopen() },
		func() { // the tombstone expires before the old record does
			if c, err := s.Expire(t.Context(), Start.Add(11*time.Minute)); c != 1 || err != nil {
				t.Fatalf("expired %d: %v", c, err)
			}
		},
		func() { s = s.Reopen() },
	} {
		f()
		if o := put(t, s, old)[0]; o.Outcome != dht.Superseded || o.Held.Sequence != 6 {
			t.Errorf("step %d: old record %v", step, o)
		}
		if v, ok, err := s.Version(protocol.TableNodeInfo, n.ID); !ok || err != nil || v.Sequence != 6 {
			t.Errorf("step %d: mark %v %v %v", step, v, ok, err)
		}
	}
	want(t, s, w.Info(n, 7, Start.Add(11*time.Minute)), dht.Stored)
	// Marks of what an operator signs stay for good; a NodeInfo's goes when nothing older can be valid.
	d := w.Device(7, "printer", 3)
	put(t, s, d)
	if _, err := s.Expire(t.Context(), Start.Add(3*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Expire(t.Context(), Start.Add(3*365*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s = s.Reopen()
	want(t, s, w.Device(7, "printer", 2), dht.Superseded)
	if _, ok, _ := s.Version(protocol.TableNodeInfo, n.ID); ok {
		t.Error("a NodeInfo's mark is kept for ever")
	}
}

func lookupKeys(t *testing.T, w *World, s Opened) {
	loc, other := Key("here"), Key("there")
	mine := map[protocol.ID]bool{}
	for i := range 23 {
		n := w.Node(7, fmt.Sprint("node ", i))
		if i%4 == 0 {
			put(t, s, w.Info(n, 1, Start, other))
			continue
		}
		put(t, s, w.Info(n, 1, Start, loc, other))
		mine[n.ID] = true
	}
	moved := w.Node(7, "node 1")
	put(t, s, w.Info(moved, 2, Start, other), w.Info(w.Node(8, "foreign"), 1, Start, loc))
	delete(mine, moved.ID)
	s = s.Reopen()
	for page := 1; page < 9; page++ {
		got := all(t, s, dht.Query{Table: protocol.TableNodeInfo, By: dht.ByKey, Key: protocol.NewID(7, loc), Now: Start}, page)
		if len(got) != len(mine) {
			t.Fatalf("page %d: %d records, want %d", page, len(got), len(mine))
		}
		for i, o := range got {
			if !mine[o] || i > 0 && got[i-1].Compare(o) >= 0 {
				t.Errorf("page %d: owner %d is wrong or out of order", page, i)
			}
		}
	}
	if got := all(t, s, dht.Query{Table: protocol.TableNodeInfo, By: dht.ByKey, Key: moved.ID, Now: Start}, 4); len(got) != 1 || got[0] != moved.ID {
		t.Errorf("by own key: %v", got)
	}
}

func byDomain(t *testing.T, w *World, s Opened) {
	for i := range 11 {
		put(t, s, w.Device(7, fmt.Sprint("d", i), 1), w.Device(8, fmt.Sprint("d", i), 1))
	}
	put(t, s, w.Device(6, "a", 1), w.Device(math.MaxUint32, "z", 1))
	s = s.Reopen()
	for page := 1; page < 13; page++ {
		got := all(t, s, dht.Query{Table: protocol.TableEndDevice, By: dht.ByDomain, Key: protocol.NewID(7, protocol.Hash{}), Now: Start}, page)
		if len(got) != 11 {
			t.Errorf("page %d: %d devices", page, len(got))
		}
	}
	if got := all(t, s, dht.Query{Table: protocol.TableEndDevice, By: dht.ByDomain, Key: protocol.NewID(math.MaxUint32, protocol.Hash{}), Now: Start}, 3); len(got) != 1 {
		t.Errorf("last domain: %v", got)
	}
}

func revocations(t *testing.T, w *World, s Opened) {
	owner := func(i int) protocol.ID { return protocol.NewID(protocol.Domain(7+i%2), Key(fmt.Sprint(i))) }
	for i := 20; i >= 1; i-- { // any order of arrival
		put(t, s, w.Revocation(owner(i), uint64(i), protocol.RevokedNode))
	}
	s = s.Reopen()
	for page := 1; page < 8; page++ {
		got := all(t, s, dht.Query{Table: protocol.TableRevocation, By: dht.ByNumber, Key: protocol.NewID(7, protocol.Hash{}), Since: 7, Now: Start}, page)
		if len(got) != 7 {
			t.Fatalf("page %d: %d revocations since 7", page, len(got))
		}
		for i, o := range got {
			if o != owner(8+2*i) {
				t.Errorf("page %d: place %d", page, i)
			}
		}
	}
	put(t, s, w.Revocation(owner(2), 21, protocol.UnbannedAgain))
	got := all(t, s, dht.Query{Table: protocol.TableRevocation, By: dht.ByNumber, Key: protocol.NewID(7, protocol.Hash{}), Now: Start}, 4)
	if len(got) != 10 || got[9] != owner(2) {
		t.Errorf("a newer number does not replace the older: %v", got)
	}
}

func counts(t *testing.T, w *World, s Opened) {
	n := w.Node(7, "a")
	info, device := w.Info(n, 1, Start), w.Device(7, "p", 1)
	put(t, s, n.Record, info, device, w.Device(8, "p", 1))
	check := func(want dht.Counts) {
		t.Helper()
		if c := s.Counts(7); c != want {
			t.Errorf("counts %+v, want %+v", c, want)
		}
	}
	check(dht.Counts{Records: 3, Nodes: 1, Devices: 1, Bytes: len(n.Record) + len(info) + len(device)})
	info = w.Info(n, 2, Start, Key("longer"))
	gone := w.Static(protocol.Record{Table: protocol.TableEndDevice, Tombstone: true, Owner: protocol.NewID(7, Key("p")), Sequence: 2}, nil)
	put(t, s, info, gone)
	s = s.Reopen()
	check(dht.Counts{Records: 3, Nodes: 1, Bytes: len(n.Record) + len(info) + len(gone)})
	if _, err := s.Expire(t.Context(), Start.Add(20*time.Minute)); err != nil {
		t.Fatal(err)
	}
	check(dht.Counts{Records: 2, Nodes: 1, Bytes: len(n.Record) + len(gone)})
	if c := s.Counts(9); c != (dht.Counts{}) {
		t.Errorf("unknown domain: %+v", c)
	}
}

func expire(t *testing.T, w *World, s Opened) {
	for i := range 7 {
		put(t, s, w.Info(w.Node(7, fmt.Sprint(i)), 1, Start.Add(time.Duration(i)*time.Minute), Key("loc")))
	}
	q := dht.Query{Table: protocol.TableNodeInfo, By: dht.ByKey, Key: protocol.NewID(7, Key("loc")), Now: Start.Add(12 * time.Minute)}
	if got := all(t, s, q, 3); len(got) != 4 {
		t.Errorf("%d unexpired before collecting", len(got))
	}
	if n, err := s.Expire(t.Context(), q.Now); n != 3 || err != nil {
		t.Errorf("collected %d: %v", n, err)
	}
	s = s.Reopen()
	if got := all(t, s, q, 3); len(got) != 4 {
		t.Errorf("%d unexpired after collecting", len(got))
	}
	if n, err := s.Expire(t.Context(), q.Now); n != 0 || err != nil {
		t.Errorf("collected %d more: %v", n, err)
	}
}

func sequences(t *testing.T, w *World, s Opened) {
	a, b := w.Node(7, "a").ID, w.Node(8, "b").ID
	next := func(id protocol.ID, floor, want uint64) {
		t.Helper()
		if n, err := s.NextSequence(t.Context(), protocol.TableNodeInfo, id, floor); n != want || err != nil {
			t.Errorf("sequence %d, want %d: %v", n, want, err)
		}
	}
	next(a, 0, 1)
	next(a, 0, 2)
	next(b, 100, 100)
	s = s.Reopen()
	next(a, 0, 3)
	next(b, 50, 101)
	next(b, 200, 200)
	if n, err := s.NextSequence(t.Context(), protocol.TableEndDevice, a, 0); n != 1 || err != nil {
		t.Errorf("tables share a sequence: %d, %v", n, err)
	}
}

func settings(t *testing.T, _ *World, s Opened) {
	if v, err := s.Setting("x"); v != nil || err != nil {
		t.Errorf("unset: %q, %v", v, err)
	}
	for _, v := range []string{"1", "2", ""} {
		if err := s.SetSetting(t.Context(), "x", []byte(v)); err != nil {
			t.Fatal(err)
		}
		s = s.Reopen()
		if got, err := s.Setting("x"); string(got) != v || err != nil {
			t.Errorf("%q: %q, %v", v, got, err)
		}
	}
}

func concurrent(t *testing.T, w *World, s Opened) {
	const writers, each = 8, 25
	var nodes [writers]*Node
	for i := range nodes {
		nodes[i] = w.Node(7, fmt.Sprint("writer ", i))
	}
	shared := w.Node(7, "shared")
	var wg sync.WaitGroup
	for i, n := range nodes {
		var own, common []*protocol.Record
		for k := range each {
			own = append(own, Parse(t, w.Info(n, uint64(k+1), Start)))
			common = append(common, Parse(t, w.Info(shared, uint64(k*writers+i+1), Start)))
		}
		wg.Go(func() {
			for k := range each {
				if out, err := s.Put(context.Background(), []*protocol.Record{own[k], common[k]}); err != nil || out[0].Outcome != dht.Stored {
					t.Errorf("writer %d: %v %v", i, out, err)
				}
				if v, ok, err := s.Version(protocol.TableNodeInfo, n.ID); !ok || err != nil || v.Sequence != uint64(k+1) {
					t.Errorf("writer %d does not read its write", i)
				}
			}
		})
	}
	wg.Wait()
	s = s.Reopen()
	if v, _, _ := s.Version(protocol.TableNodeInfo, shared.ID); v.Sequence != writers*each {
		t.Errorf("newest of the shared record is %d", v.Sequence)
	}
}

func closed(t *testing.T, w *World, s Opened) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := s.Put(t.Context(), []*protocol.Record{Parse(t, w.Device(7, "x", 1))}); !errors.Is(err, dht.ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Expire(ctx, Start); err == nil {
		t.Error("expire after close")
	}
}
