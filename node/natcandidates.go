package node

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
)

const (
	// tcpFirst is how many places of a NodeInfo candidates of TCP have before those of UDP; what is left over goes to either.
	tcpFirst = 5
	lanUDP   = 3
)

// udpCandidates are where this node's own UDP socket may be written to, best first: as super-nodes see it, at public addresses
// of its own, on its LANs. Only what servers agree on is named (see nat.Agree): who is sent packets at it did not ask.
func (n *Node) udpCandidates() []protocol.Candidate {
	var l []protocol.Candidate
	add := func(kind protocol.CandidateKind, a netip.AddrPort, priority uint32) {
		addr := protocol.AddrOf(a)
		known := slices.ContainsFunc(l, func(c protocol.Candidate) bool { return c.Addr == addr })
		if addr.IsValid() && addr.Port() != 0 && !known && len(l) < protocol.MaxCandidates {
			l = append(l, protocol.Candidate{Kind: kind, Protocol: protocol.UDP, Addr: addr, Priority: priority})
		}
	}
	port := n.bound().Port()
	own := n.ownAddresses()
	global := func(a netip.Addr) bool { return n.isPublic(a) }
	for _, a := range own {
		if global(a) {
			add(protocol.CandidateHost, netip.AddrPortFrom(a, port), 250)
		}
	}
	r := n.natReport()
	for i, a := range n.natSeen(&r) {
		f := []*nat.Family{&r.V4, &r.V6}[i]
		if f.Last.IsValid() && f.Last.Addr() == a.Addr() {
			a = f.Last
		}
		if a.IsValid() && n.isPublic(a.Addr()) {
			add(protocol.CandidateSeen, a, 300)
		}
	}
	lan := 0
	for _, a := range own {
		if !global(a) && !a.IsLinkLocalUnicast() && lan < lanUDP {
			lan++
			add(protocol.CandidateHost, netip.AddrPortFrom(a, port), 100)
		}
	}
	slices.SortStableFunc(l, func(a, b protocol.Candidate) int { return int(b.Priority) - int(a.Priority) })
	return l
}

// natSeen is this node's own socket from outside, by family: what homes say now, and what the last measurement said, together.
func (n *Node) natSeen(r *nat.Report) [2]netip.AddrPort {
	var votes []nat.Vote
	for _, s := range r.Servers {
		votes = append(votes, nat.Vote{Server: s.Server, Trusted: s.Trusted, Addr: s.Mapped})
	}
	return n.natAgreed(append(votes, n.natVotes()...)) // later ones replace those of the same server
}

// natHint is what to tell the other side of a meeting by UDP about the NAT before this node. Wanted is false where UDP does not
// get out.
func (n *Node) natHint() protocol.Punch {
	r := n.natReport()
	f := r.V4
	if !f.Works && r.V6.Works {
		f = r.V6
	}
	if r.UDP == nat.No || r.UDP == nat.Unknown && len(n.natVotes()) == 0 {
		return protocol.Punch{}
	}
	return protocol.Punch{Wanted: true, Mapping: f.Mapping, Step: f.Step}
}

// announcedCandidates are those of a NodeInfo: TCP ones first, and UDP ones in what room there is.
func (n *Node) announcedCandidates() []protocol.Candidate {
	tcp, udp := n.candidates(), n.udpCandidates()
	keep := max(tcpFirst, protocol.MaxCandidates-len(udp))
	l := append(slices.Clone(tcp[:min(len(tcp), keep)]), udp...)
	return l[:min(len(l), protocol.MaxCandidates)]
}

// candidatesChanged has the NodeInfo announced anew where its UDP candidates are no longer the same.
func (n *Node) candidatesChanged() {
	l := n.udpCandidates()
	n.nat.mu.Lock()
	same := slices.Equal(l, n.nat.announced)
	n.nat.announced = l
	n.nat.mu.Unlock()
	if !same {
		n.touchAll()
	}
}

// externalAddresses are the router's by its own word, where it was asked to open ports.
func (n *Node) externalAddresses() (l []netip.Addr) {
	for _, p := range n.portMappings() {
		if a, err := netip.ParseAddrPort(p.External); err == nil {
			l = append(l, a.Addr())
		}
	}
	return l
}

// nextMapping is the outside address that the NAT gives a flow from a fresh socket now: where it counts, the next flow's port
// is a step further. It takes a round trip to one super-node; false where none answers, or it names another host than all.
func (n *Node) nextMapping(ctx context.Context) (netip.AddrPort, bool) {
	r := n.natReport()
	_, servers, _ := n.natServers()
	i := slices.IndexFunc(servers, func(s nat.Server) bool { return s.V4.IsValid() })
	if i < 0 {
		return netip.AddrPort{}, false
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: n.localIPv4()})
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var id nat.Transaction
	if _, err := rand.Read(id[:]); err != nil {
		return netip.AddrPort{}, false
	}
	var buf [readBuffer]byte
	for range 3 {
		if c.SetReadDeadline(time.Now().Add(250*time.Millisecond)) != nil || ctx.Err() != nil {
			break
		}
		if _, err := c.WriteToUDPAddrPort(nat.Request(id), servers[i].V4); err != nil {
			break
		}
		for {
			k, from, err := c.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				break
			}
			a, err := nat.ParseResponse(buf[:k])
			if err == nil && a.ID == id && netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) == servers[i].V4 {
				return a.Mapped, n.natSeen(&r)[0].Addr() == a.Mapped.Addr()
			}
		}
	}
	return netip.AddrPort{}, false
}

func (n *Node) localIPv4() net.IP {
	if b := n.bound().Addr(); b.Is4() && !b.IsUnspecified() {
		return b.AsSlice()
	}
	return net.IPv4zero
}
