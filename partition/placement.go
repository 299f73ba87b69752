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
	Own       bool   // of one of the operator's own domains: neutral
	Capacity  uint64 // bytes a second that it relays at most, 0 for no cap
	Paused    bool   // is given nothing to fill, and serves what it serves
}

// Placement is one entry of a map to be signed.
type Placement struct {
	Candidate
	Range Range // what it serves; None for a newcomer
	Fill  Range // what it is to serve next and takes over meanwhile; None where nothing is to change
	// Isolated placements are kept beside the plan, not made by it: they count for nothing.
	Isolated bool
}

// DomainLoad is how much a domain weighs: its enrolled nodes and devices, say.
type DomainLoad struct {
	Domain protocol.Domain
	Weight uint64
}

// State is what a plan is made from.
type State struct {
	Supers   []Candidate          // admitted, alive, not isolated; whoever is missing has lost its place
	Operator Candidate            // without addresses it cannot be placed
	Present  []Placement          // the map in force
	Filled   map[protocol.ID]bool // whose Fill in Present has been proven against those who serve it
	// Served is what members have served for a while, where that is less than what Present says: by the map in force, if Present
	// is a plan beyond it. Who is missing counts with what Present says.
	Served map[protocol.ID]Range
	Load   []DomainLoad // in order of domain
}

// Random is where chance comes from: a rand.Rand of math/rand/v2, seeded with what nobody outside can guess.
type Random interface {
	IntN(n int) int
}

// Value is what the operator signs as the placement's SuperNode record.
func (p Placement) Value(epoch uint64) protocol.SuperNodeValue {
	v := protocol.SuperNodeValue{
		Signing: p.Signing, Sealing: p.Sealing, From: p.Range.From, To: p.Range.To, MapEpoch: epoch,
		FillFrom: p.Fill.From, FillTo: p.Fill.To, Isolated: p.Isolated,
	}
	for _, a := range p.Addresses {
		v.Addresses = append(v.Addresses, protocol.AddrOf(a))
	}
	return v
}

// Replaceable reports whether somebody without a place could fill what id fills, were id not there.
func Replaceable(s State, id protocol.ID) bool {
	p := newPlanner(s, first{})
	i := slices.IndexFunc(p.nodes, func(m *node) bool { return m.c.ID == id })
	if i < 0 || !p.nodes[i].fill.Valid() {
		return false
	}
	gone := p.nodes[i]
	c := p.cells[p.at(gone.fill.From)]
	others := slices.DeleteFunc(slices.Concat(c.in, c.out), func(m *node) bool { return m == gone })
	return slices.ContainsFunc(fit(p.reserve), func(m *node) bool {
		return !m.clashesAny(others) && (m.customer() == gone.customer() || !p.capped(m.customer(), 0))
	})
}
