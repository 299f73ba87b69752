package partition

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/protocol"
)

// An operator's own super-nodes stand together at one hoster: neither their domain nor their network keeps them off the map.
func TestOwnAreUnderNoLimit(t *testing.T) {
	s := State{Operator: candidate(t, 500)}
	for i := range uint64(4) {
		c := candidate(t, i)
		c.ID = protocol.NodeID(7, c.Signing)
		c.Addresses = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 7700)}
		c.Own = true
		s.Supers = append(s.Supers, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		s.Present = Next(s, r)
		s.Filled = make(map[protocol.ID]bool)
		for _, p := range s.Present {
			s.Filled[p.ID] = p.Fill.Valid()
		}
	}
	if len(s.Present) != len(s.Supers) {
		t.Fatalf("%d placed of %d", len(s.Present), len(s.Supers))
	}
	for _, p := range s.Present {
		if p.ID == s.Operator.ID || p.Range != Whole() {
			t.Errorf("%s serves %v", p.ID.Short(), p.Range)
		}
	}
}
