package partition

import (
	"math"
	"testing"

	"culvert/protocol"
)

// A record whose keys lie in different ranges is out once W of each range have it.
func TestConfirmedInEveryRange(t *testing.T) {
	s := signer{t, pair(t, 1000)}
	low, high := Range{0, math.MaxUint64 / 2}, Range{math.MaxUint64/2 + 1, math.MaxUint64}
	var ps []Placement
	for i := range uint64(6) {
		p := Placement{Candidate: candidate(t, i), Range: low, Fill: None()}
		if i >= 3 {
			p.Range = high
		}
		ps = append(ps, p)
	}
	ps[5].Range, ps[5].Fill = None(), high // has yet to take over
	head, recs := s.build(1, ps)
	m, err := Build(head, recs, s.check)
	if err != nil {
		t.Fatal(err)
	}
	device := protocol.Record{Table: protocol.TableEndDevice, Owner: protocol.NewID(1, protocol.Hash{1})}
	wide := device
	wide.Owner = protocol.NewID(0xf0000000, protocol.Hash{1})
	both := protocol.Record{Table: protocol.TableEndDevice, Owner: protocol.NewID(0x7fffffff, protocol.Hash{1}), Lookups: []protocol.Hash{{0xff}}}
	both.Lookups[0] = protocol.Hash{0xff, 0xff, 0xff, 0xff}
	for _, c := range []struct {
		name string
		r    protocol.Record
		has  []int
		want int
	}{
		{"two of three", device, []int{0, 2}, 2},
		{"of another range", device, []int{3, 4}, 0},
		{"all who serve it", wide, []int{3, 4}, 6},
		{"a filler alone", wide, []int{5}, 0},
		{"one key's members", both, []int{0, 1}, 2}, // both keys are below the middle
		{"everywhere", protocol.Record{Table: protocol.TableSuperNode}, []int{0, 5}, 2},
	} {
		has := make(map[protocol.ID]bool)
		for _, i := range c.has {
			has[ps[i].ID] = true
		}
		if got := m.Confirmed(&c.r, func(id protocol.ID) bool { return has[id] }); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	// Cut below the domain, its keys on either side.
	at := both.Keys()[1].Position()
	for i := range ps {
		ps[i].Range = Range{0, at - 1}
		if i >= 3 {
			ps[i].Range, ps[i].Fill = Range{at, math.MaxUint64}, None()
		}
	}
	head, recs = s.build(2, ps)
	if m, err = Build(head, recs, s.check); err != nil {
		t.Fatal(err)
	}
	if got := m.Confirmed(&both, func(id protocol.ID) bool { return id == ps[0].ID || id == ps[1].ID }); got != 0 {
		t.Errorf("nobody has it under its other key, and %d confirm it", got)
	}
}
