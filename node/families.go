package node

import (
	"net/netip"

	"culvert/protocol"
)

// families are the address families in which this machine can reach the internet; 0 while that is not known.
type families uint32

const (
	family4 families = 1
	family6 families = 2
)

func familyOf(a netip.Addr) families {
	if a.Unmap().Is4() {
		return family4
	}
	return family6
}

// familiesOf judges by the interfaces' addresses: a private IPv4 address leads out through a NAT, a private IPv6 one does not.
// bound is where the socket listens; one address that somebody chose is left to him.
func familiesOf(own []netip.Prefix, bound netip.Addr) (f families) {
	if bound.IsValid() && !bound.IsUnspecified() {
		return 0
	}
	for _, p := range own {
		a := p.Addr().Unmap()
		if a.Is4() || a.IsGlobalUnicast() && !a.IsPrivate() {
			f |= familyOf(a)
		}
	}
	if bound.Is4() {
		f &^= family6
	}
	return f
}

// reach gives a peer of the map, or an operator, an address of a family that this machine has, where the one given is of
// another.
func (n *Node) reach(to protocol.Peer) protocol.Peer {
	have := families(n.families.Load())
	if have == 0 || !to.Addr.IsValid() || have&familyOf(to.Addr.Addr()) != 0 {
		return to
	}
	for _, s := range n.meshes() {
		for _, a := range s.addresses(to.ID) {
			if have&familyOf(a.Addr()) != 0 && !protocol.StreamsOnly(a) {
				to.Addr = a
				return to
			}
		}
	}
	return to
}

// addresses are all that a member of the map, or an operator, is known by.
func (s *mesh) addresses(id protocol.ID) (l []netip.AddrPort) {
	if m := s.pmap.Load(); m != nil {
		if mem, ok := m.Member(id); ok {
			l = append(l, mem.Addresses...)
		}
	}
	for _, p := range s.contacts() {
		if p.ID == id {
			l = append(l, p.Addr)
		}
	}
	return l
}
