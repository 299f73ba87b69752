package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

func byPosition(t *testing.T, w *World, s Opened) {
	var raws [][]byte
	for i := range 40 {
		n := w.Node(protocol.Domain(1+i*1e8), fmt.Sprint("p", i))
		raws = append(raws, w.Info(n, 1, Start, Key(fmt.Sprint("l", i%5))))
	}
	put(t, s, raws...)
	s = s.Reopen()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		a, b := r.Uint64(), r.Uint64()
		if i == 0 {
			a, b = 0, math.MaxUint64
		}
		q := dht.Query{Table: protocol.TableNodeInfo, By: dht.ByPosition, From: min(a, b), To: max(a, b), Now: Start}
		var want []protocol.ID
		for _, raw := range raws {
			rec := Parse(t, raw)
			if slices.ContainsFunc(rec.Keys(), func(k protocol.ID) bool { return q.From <= k.Position() && k.Position() <= q.To }) {
				want = append(want, rec.Owner)
			}
		}
		slices.SortFunc(want, protocol.ID.Compare)
		if got := all(t, s, q, 1+i%9); !slices.Equal(got, want) {
			t.Fatalf("range %x-%x: %d records, want %d", q.From, q.To, len(got), len(want))
		}
	}
}

func digests(t *testing.T, w *World, s Opened) {
	whole := func() protocol.DigestPart { return s.Digest(protocol.TableNodeInfo, 0, math.MaxUint64) }
	if d := whole(); d.Count != 0 || d.Sum != [16]byte{} {
		t.Errorf("empty: %+v", d)
	}
	// Two keys in one part must not cancel out.
	n := w.Node(7, "a")
	seen := map[[16]byte]bool{{}: true}
	for v := range uint64(5) {
		put(t, s, w.Info(n, v+1, Start, n.ID.Hash(), Key("l")))
		if d := whole(); seen[d.Sum] {
			t.Errorf("version %d does not show in the digest", v+1)
		} else {
			seen[d.Sum] = true
		}
	}
	for i := range 700 {
		put(t, s, w.Info(w.Node(protocol.Domain(1+i*5e6), fmt.Sprint("d", i)), 1, Start))
	}
	before := whole()
	s = s.Reopen()
	if whole() != before {
		t.Error("the digest does not survive a restart")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		cut := r.Uint64()
		a, b := s.Digest(protocol.TableNodeInfo, 0, cut), s.Digest(protocol.TableNodeInfo, cut+1, math.MaxUint64)
		for i := range a.Sum {
			a.Sum[i] ^= b.Sum[i]
		}
		if a.Count+b.Count != before.Count || a.Sum != before.Sum {
			t.Fatalf("parts at %x do not make the whole", cut)
		}
	}
	if _, err := s.Expire(t.Context(), Start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if d := whole(); d.Count != 0 || d.Sum != [16]byte{} {
		t.Errorf("emptied: %+v", d)
	}
}

// discard: what goes may come back as it was, and nothing older may.
func discard(t *testing.T, w *World, s Opened) {
	n := w.Node(7, "a")
	held := func(raw []byte) []dht.Held {
		r := Parse(t, raw)
		return []dht.Held{{Owner: r.Owner, Version: dht.VersionOf(r)}}
	}
	older, raw, newer := w.Info(n, 4, Start, Key("x")), w.Info(n, 5, Start, Key("l")), w.Info(n, 6, Start)
	put(t, s, raw, w.Device(7, "printer", 3))
	if c, err := s.Discard(t.Context(), protocol.TableNodeInfo, held(newer)); c != 0 || err != nil {
		t.Errorf("discarded %d of another version: %v", c, err)
	}
	if c, err := s.Discard(t.Context(), protocol.TableNodeInfo, held(raw)); c != 1 || err != nil {
		t.Fatalf("discarded %d: %v", c, err)
	}
	for range 2 {
		if _, err := s.Get(protocol.TableNodeInfo, n.ID, Start); !errors.Is(err, dht.ErrNotFound) {
			t.Errorf("still there: %v", err)
		}
		if d := s.Digest(protocol.TableNodeInfo, 0, math.MaxUint64); d.Count != 0 {
			t.Errorf("digest still counts %d", d.Count)
		}
		want(t, s, older, dht.Superseded)
		s = s.Reopen()
	}
	want(t, s, raw, dht.Stored)
	want(t, s, newer, dht.Stored)
	if c, err := s.Discard(t.Context(), protocol.TableEndDevice, held(w.Device(7, "printer", 3))); c != 1 || err != nil {
		t.Fatalf("device: %d %v", c, err)
	}
	want(t, s, w.Device(7, "printer", 2), dht.Superseded)
	want(t, s, w.Device(7, "printer", 3), dht.Stored)
}

// model drives the store with random operations and compares it with the plainest possible one.
func model(t *testing.T, w *World, s Opened) {
	r := rand.New(rand.NewPCG(5, 6))
	var nodes []*Node
	for i := range 6 {
		nodes = append(nodes, w.Node(protocol.Domain(1+i%2), fmt.Sprint("m", i)))
	}
	newest := map[protocol.ID][]byte{} // also after expiry
	now := Start
	for step := range 400 {
		switch k := r.IntN(20); {
		case k < 15:
			n := nodes[r.IntN(len(nodes))]
			raw := w.Info(n, uint64(step/8+r.IntN(6)+1), now.Truncate(5*time.Minute), Key(fmt.Sprint(r.IntN(3))))
			old := newest[n.ID]
			want := dht.Stored
			if old != nil {
				a, b := Parse(t, raw), Parse(t, old)
				switch {
				case a.Supersedes(b):
				case b.Supersedes(a):
					want = dht.Superseded
				case bytes.Equal(raw, old) && !b.Expired(now):
					want = dht.Same
				case !b.Expired(now):
					want = dht.Conflict
				default:
					want = dht.Superseded // its mark
				}
			}
			if got := put(t, s, raw)[0].Outcome; got != want {
				t.Fatalf("step %d: outcome %d, want %d", step, got, want)
			}
			if want == dht.Stored {
				newest[n.ID] = raw
			}
		case k < 18:
			now = now.Add(time.Duration(r.IntN(150)) * time.Second)
			if _, err := s.Expire(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		default:
			s = s.Reopen()
		}
		for _, n := range nodes {
			got, err := s.Get(protocol.TableNodeInfo, n.ID, now)
			want := newest[n.ID]
			if want != nil && Parse(t, want).Expired(now) {
				want = nil
			}
			if !bytes.Equal(got, want) || (err == nil) != (want != nil) {
				t.Fatalf("step %d: get %v", step, err)
			}
		}
	}
}
