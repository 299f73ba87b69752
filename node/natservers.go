package node

import (
	"cmp"
	"net/netip"
	"slices"

	"culvert/discovery/nat"
	"culvert/protocol"
)

// natServers are up to three super-nodes, and operators where there are too few, with a membership that may ask them: homes
// first, as far as possible with addresses of their own.
func (n *Node) natServers() (*membership, []nat.Server, map[protocol.ID]protocol.Peer) {
	l := n.members()
	slices.SortFunc(l, func(a, b *membership) int { return cmp.Compare(a.domain, b.domain) })
	for _, m := range l {
		if m.barred() != nil {
			continue
		}
		if servers, peers := m.natServers(); len(servers) > 0 {
			return m, servers, peers
		}
	}
	return nil, nil, nil
}

func (m *membership) natServers() ([]nat.Server, map[protocol.ID]protocol.Peer) {
	homes := m.homes.ids()
	all := m.peers() // super-nodes in random order, then operators
	slices.SortStableFunc(all, func(a, b protocol.Peer) int {
		return cmp.Compare(natRank(a.ID, homes), natRank(b.ID, homes))
	})
	var servers, twins []nat.Server
	peers := make(map[protocol.ID]protocol.Peer)
	hosts := make(map[netip.Addr]bool)
	for _, p := range all {
		if _, known := peers[p.ID]; known {
			continue
		}
		peers[p.ID] = p
		s := nat.Server{ID: p.ID, Trusted: p.ID.Domain() == protocol.OperatorDomain}
		for _, a := range m.mesh.addresses(p.ID) {
			at := &s.V4
			if a.Addr().Unmap().Is6() {
				at = &s.V6
			}
			if !at.IsValid() && !protocol.StreamsOnly(a) {
				*at = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			}
		}
		host := cmp.Or(s.V4.Addr(), s.V6.Addr())
		switch {
		case !host.IsValid():
		case hosts[host]:
			twins = append(twins, s)
		default:
			hosts[host] = true
			servers = append(servers, s)
		}
	}
	servers = append(servers, twins...)
	servers = servers[:min(len(servers), nat.MaxServers)]
	slices.SortStableFunc(servers, func(a, b nat.Server) int { return compareBool(a.Trusted, b.Trusted) })
	return servers, peers
}

// natRank orders those that are asked: homes, other super-nodes, operators.
func natRank(id protocol.ID, homes []protocol.ID) int {
	switch {
	case id.Domain() == protocol.OperatorDomain:
		return 2
	case slices.Contains(homes, id):
		return 0
	}
	return 1
}

// compareBool has false come before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
