package partition

import (
	"net/netip"
	"slices"

	"culvert/protocol"
	"culvert/protocol/key"
)

// Replicas is R: how many super-nodes a range should have.
const Replicas = 3

// Candidate is who may be given a range.
type Candidate struct {
	ID        protocol.ID
	Signing   key.Public
	Sealing   key.Public
	Addresses []netip.AddrPort
}

// Placement is one entry of a map to be signed.
type Placement struct {
	Candidate
	Range Range // what it serves
	Fill  Range // what it is to serve next and takes over meanwhile; None where nothing is to change
}

// Assign places candidates: every super-node serves the whole range, and so does the operator while there are fewer than
// Replicas others. The result is in order of ID, whatever the order of supers; a candidate given twice is placed once.
func Assign(supers []Candidate, operator Candidate) []Placement {
	var ps []Placement
	for _, c := range supers {
		if c.ID != operator.ID {
			ps = append(ps, Placement{Candidate: c, Range: Whole(), Fill: None()})
		}
	}
	order := func(a, b Placement) int { return a.ID.Compare(b.ID) }
	slices.SortStableFunc(ps, order)
	ps = slices.CompactFunc(ps, func(a, b Placement) bool { return a.ID == b.ID })
	if len(ps) < Replicas {
		ps = append(ps, Placement{Candidate: operator, Range: Whole(), Fill: None()})
		slices.SortFunc(ps, order)
	}
	return ps
}

// Value is what the operator signs as the placement's SuperNode record.
func (p Placement) Value(epoch uint64) protocol.SuperNodeValue {
	v := protocol.SuperNodeValue{
		Signing: p.Signing, Sealing: p.Sealing, From: p.Range.From, To: p.Range.To, MapEpoch: epoch,
		FillFrom: p.Fill.From, FillTo: p.Fill.To,
	}
	for _, a := range p.Addresses {
		v.Addresses = append(v.Addresses, protocol.AddrOf(a))
	}
	return v
}
