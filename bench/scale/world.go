package main

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"

	"culvert/protocol"
)

// customer is one domain.
type customer struct {
	domain protocol.Domain
	nodes  float64
}

// volunteer is a node that offers itself as super-node.
type volunteer struct {
	id   protocol.ID
	addr netip.AddrPort
	on   bool
	// stays: it never leaves.
	stays bool
}

// population is who there is. Nodes that are no volunteers are counts in their domains: a node's position is uniform in its
// domain, so nothing else of it matters here.
type population struct {
	a          assumptions
	nodes      int
	customers  []customer // in order of domain
	before     []float64  // nodes of the customers before
	volunteers []volunteer
}

// superOn is the share of its time that a volunteer is there.
func (a assumptions) superOn() float64 {
	return float64(a.SuperSession / (a.SuperSession + a.SuperAbsence))
}

// newPopulation draws domains of Pareto sizes, and so many volunteers among the nodes that one in NodesPerVolunteer is there.
func newPopulation(a assumptions, nodes int, r *rand.Rand) *population {
	p := &population{a: a, nodes: nodes}
	used := make(map[protocol.Domain]bool)
	for left := float64(nodes); left > 0; {
		n := math.Floor(a.DomainSmallest * math.Pow(1-r.Float64(), -1/a.DomainShape))
		n = max(1, min(n, left, math.Ceil(a.DomainMost*float64(nodes))))
		d := protocol.Domain(r.Uint32())
		if d == protocol.OperatorDomain || used[d] {
			continue
		}
		used[d] = true
		p.customers = append(p.customers, customer{d, n})
		left -= n
	}
	slices.SortFunc(p.customers, func(x, y customer) int { return cmp.Compare(x.domain, y.domain) })
	p.before = make([]float64, len(p.customers)+1)
	for i, c := range p.customers {
		p.before[i+1] = p.before[i] + c.nodes
	}
	sites := make(map[[2]int]uint16)
	for range max(1, int(math.Round(float64(nodes)/float64(a.NodesPerVolunteer)/a.superOn()))) {
		i := p.someone(r)
		v := volunteer{id: protocol.NewID(p.customers[i].domain, randomHash(r))}
		// Volunteers of one domain share a /16 for each fifty of its nodes, as offices share a provider.
		site := [2]int{i, r.IntN(1 + int(p.customers[i].nodes)/50)}
		if _, ok := sites[site]; !ok {
			sites[site] = uint16(11<<8 + r.IntN(180<<8))
		}
		s := sites[site]
		v.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(s >> 8), byte(s), byte(r.Uint32()), byte(1 + r.IntN(250))}), 7700)
		p.volunteers = append(p.volunteers, v)
	}
	return p
}

// someone draws the customer of a node drawn at random.
func (p *population) someone(r *rand.Rand) int {
	x := r.Float64() * float64(p.nodes)
	return sort.Search(len(p.customers), func(i int) bool { return p.before[i+1] > x })
}

func randomHash(r *rand.Rand) (h protocol.Hash) {
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], r.Uint64())
	}
	return h
}

// below is how many nodes have a position under x: the domain is the upper half of a position, the rest is a hash.
func (p *population) below(x uint64) float64 {
	d := protocol.Domain(x >> 32)
	i, found := slices.BinarySearchFunc(p.customers, d, func(c customer, d protocol.Domain) int { return cmp.Compare(c.domain, d) })
	if !found {
		return p.before[i]
	}
	return p.before[i] + p.customers[i].nodes*float64(uint32(x))/(1<<32)
}

// within is how many nodes have a position in from…to.
func (p *population) within(from, to uint64) float64 {
	if from > to {
		return 0
	}
	end := float64(p.nodes)
	if to != math.MaxUint64 {
		end = p.below(to + 1)
	}
	return end - p.below(from)
}

// recordsPerNode is how many (key, record) pairs a range holds for a node in it: its certificate, its NodeInfo under its own
// key and a location's, and its devices under ID and name.
func (a assumptions) recordsPerNode() float64 { return 1 + 2 + 2*a.DevicesPerNode }
