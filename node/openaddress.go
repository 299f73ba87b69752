package node

import (
	"net"
	"net/netip"
	"strconv"

	"culvert/discovery/nat"
	"culvert/node/volunteer"
	"culvert/protocol"
	"culvert/tunnel"
)

// addresses are where this node is to be reached as a super-node.
func (m *membership) addresses() []netip.AddrPort {
	switch {
	case len(m.node.cfg.Settings.Advertise) > 0:
		return m.node.withStreams(m.advertised())
	case m.mode() == volunteer.Auto:
		return m.node.openAddresses()
	}
	return m.node.withStreams(m.believedAddresses())
}

// advertised are the addresses that somebody named. Where a name is not resolved now, the map stays as it is.
func (m *membership) advertised() (l []netip.AddrPort) {
	n := m.node
	for _, s := range n.cfg.Settings.Advertise {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, strconv.Itoa(int(n.bound().Port()))
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(m.tasks.ctx, "ip", host)
		if err != nil {
			n.log.Warn("advertised name not resolved", "name", host, "error", err)
		}
		for _, ip := range ips {
			l = append(l, netip.AddrPortFrom(ip.Unmap(), uint16(p)))
		}
	}
	return atMost(sortedAddresses(l))
}

// believedAddresses are where a node that was told to serve believes to be reached from everywhere: the one address it listens
// on, its public addresses, those that a router has opened, or how its super-nodes and operators see it.
func (m *membership) believedAddresses() (l []netip.AddrPort) {
	n, b := m.node, m.node.bound()
	if _, only := n.onlyAddress(); only {
		return []netip.AddrPort{b}
	}
	for _, p := range n.ownPrefixes() {
		if tunnel.Public(p.Addr()) {
			l = append(l, netip.AddrPortFrom(p.Addr().Unmap(), b.Port()))
		}
	}
	l = append(l, n.mappedAddresses()...)
	for _, h := range m.homes.snapshot() {
		if len(l) == 0 && h.seen.IsValid() && h.seen.Port() == b.Port() {
			l = append(l, h.seen.AddrPort)
		}
	}
	return atMost(sortedAddresses(l))
}

// openAddresses are public ones at which nothing is known to stand between this node and whoever writes to it: its own, what
// the router has opened for both protocols, and its own port at an outside address where a measurement found no filter.
func (n *Node) openAddresses() (l []netip.AddrPort) {
	port := n.bound().Port()
	add := func(a netip.AddrPort) {
		if tunnel.Public(a.Addr()) && !protocol.StreamsOnly(a) {
			l = append(l, a)
		}
	}
	if _, only := n.onlyAddress(); only {
		add(n.bound())
		return l
	}
	r := n.natReport()
	seen := n.natSeen(&r)
	for _, p := range n.ownPrefixes() {
		a := p.Addr().Unmap()
		if f := familyReport(&r, a); f.Works && f.Filtering != nat.FilteringAddress && f.Filtering != nat.FilteringPort {
			add(netip.AddrPortFrom(a, port))
		}
	}
	for _, a := range seen {
		if a.IsValid() && a.Port() == port && familyReport(&r, a.Addr()).Filtering == nat.FilteringIndependent {
			add(a)
		}
	}
	l = append(l, n.mappedAddresses()...)
	return atMost(sortedAddresses(l))
}

// mappedAddresses are those that a router has opened for UDP and TCP alike, of which a super-node has come through by TCP.
func (n *Node) mappedAddresses() (l []netip.AddrPort) {
	if n.mapper == nil {
		return nil
	}
	have := make(map[netip.AddrPort]protocol.Transport)
	for _, m := range n.mapper.Mappings() {
		if p, ok := have[m.External]; ok && p != m.Protocol && tunnel.Public(m.External.Addr()) && !protocol.StreamsOnly(m.External) {
			l = append(l, m.External)
		}
		have[m.External] = m.Protocol
	}
	return l
}

func familyReport(r *nat.Report, a netip.Addr) *nat.Family {
	if a.Unmap().Is6() {
		return &r.V6
	}
	return &r.V4
}

func atMost(l []netip.AddrPort) []netip.AddrPort { return l[:min(len(l), protocol.MaxAddresses)] }
