package partition

import (
	"errors"
	"slices"
	"testing"

	"culvert/protocol"

	"pgregory.net/rapid"
)

// Whoever holds an older map needs only what has changed since, and proves only that.
func TestUpdateByChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := signer{t, pair(t, 1000)}
		newest := make(map[protocol.ID][]byte) // of each super-node, tombstones included
		var maps []*Map
		var cs []Candidate
		for i := range 6 {
			cs = append(cs, candidate(t, uint64(i)))
		}
		on := make(map[int]bool)
		for epoch := uint64(1); epoch <= 6; epoch++ {
			for i, c := range cs {
				switch rapid.IntRange(0, 3).Draw(t, "do") {
				case 0: // joins, or changes its range
					on[i] = true
					p := Placement{Candidate: c, Range: Range{0, rapid.Uint64().Draw(t, "to")}, Fill: None()}
					newest[c.ID] = s.sign(protocol.TableSuperNode, c.ID, epoch, false, p.Value(epoch))
				case 1:
					if on[i] {
						on[i] = false
						newest[c.ID] = s.sign(protocol.TableSuperNode, c.ID, epoch, true, protocol.SuperNodeValue{MapEpoch: epoch})
					}
				}
			}
			var all, members [][]byte
			for i, c := range cs {
				if raw := newest[c.ID]; raw != nil {
					all = append(all, raw)
					if on[i] {
						members = append(members, raw)
					}
				}
			}
			h, err := Head(epoch, members)
			if err != nil {
				t.Fatal(err)
			}
			head := s.sign(protocol.TableMapHead, HeadOwner(protocol.Hash{1}), epoch, false, h)
			m, err := Build(head, all, s.check)
			if err != nil || len(m.Members()) != len(members) {
				t.Fatalf("epoch %d: %v", epoch, err)
			}
			maps = append(maps, m)
		}
		last := maps[len(maps)-1]
		for _, old := range maps {
			var changes [][]byte
			for c := range last.Changes(old.Epoch()) {
				changes = append(changes, c.Record)
			}
			proved := 0
			got, err := Update(old, last.Head(), changes, func(r *protocol.Record) error { proved++; return s.check(r) })
			if err != nil {
				t.Fatalf("from %d by %d records: %v", old.Epoch(), len(changes), err)
			}
			if !slices.EqualFunc(got.Members(), last.Members(), func(a, b Member) bool { return slices.Equal(a.Record, b.Record) }) {
				t.Fatalf("from %d: other members", old.Epoch())
			}
			if proved > len(changes)+1 {
				t.Fatalf("%d records proved for %d changes", proved, len(changes))
			}
			if len(changes) > 0 && old.Epoch() < last.Epoch() {
				if m, err := Update(old, last.Head(), changes[1:], s.check); err == nil && len(m.Members()) != len(last.Members()) {
					t.Fatalf("a missing change went unnoticed: %v", err)
				}
			}
		}
		var whole [][]byte
		for c := range last.Changes(0) {
			whole = append(whole, c.Record)
		}
		if m, err := Build(last.Head(), whole, s.check); err != nil || len(m.Members()) != len(last.Members()) {
			t.Fatalf("the whole: %v", err)
		}
	})
}

func TestUpdateRefuses(t *testing.T) {
	s, evil := signer{t, pair(t, 1000)}, signer{t, pair(t, 1001)}
	place := func(seeds ...uint64) (ps []Placement) {
		for _, i := range seeds {
			ps = append(ps, Placement{Candidate: candidate(t, i), Range: Whole(), Fill: None()})
		}
		return ps
	}
	head, recs := s.build(1, place(1, 2))
	old, err := Build(head, recs, s.check)
	if err != nil {
		t.Fatal(err)
	}
	_, add := s.build(2, place(3))
	head2 := func(by signer, records ...[]byte) []byte {
		h, err := Head(2, records)
		if err != nil {
			t.Fatal(err)
		}
		return by.sign(protocol.TableMapHead, HeadOwner(protocol.Hash{1}), 2, false, h)
	}
	if m, err := Update(old, head2(s, recs[0], recs[1], add[0]), add, s.check); err != nil || len(m.Members()) != 3 {
		t.Fatalf("honest change: %v", err)
	}
	_, forged := evil.build(2, place(3))
	if _, err := Update(old, head2(s, recs[0], recs[1], forged[0]), forged, s.check); !errors.Is(err, protocol.ErrRecordSigner) && err == nil {
		t.Errorf("forged member: %v", err)
	}
	if _, err := Update(old, head2(evil, recs[0], recs[1], add[0]), add, s.check); err == nil {
		t.Error("forged head is taken")
	}
	if _, err := Update(old, head2(s, recs[0], add[0]), add, s.check); !errors.Is(err, ErrIncomplete) {
		t.Errorf("a withdrawal that nobody has shown: %v", err)
	}
}
