package memnet

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// firstEphemeral is where ports for Listen(0, …) begin.
const firstEphemeral = 49152

// Host is a machine with addresses and UDP sockets.
type Host struct {
	net     *Net
	realm   *realm
	addrs   []netip.Addr
	line    line
	sockets map[uint16]*Socket
	next    uint16
	off     bool
	where   int // side of a Split; 0 for that of the NAT above
}

// Host adds a machine with these addresses behind a NAT, or on the open internet where behind is nil.
func (n *Net) Host(behind *NAT, addrs ...netip.Addr) *Host {
	h := &Host{net: n, sockets: make(map[uint16]*Socket), next: firstEphemeral}
	h.attach(n.realmBehind(behind), addrs)
	return h
}

// Move takes the host to another network. Its sockets stay open; what is under way to the old
// addresses is lost.
func (h *Host) Move(behind *NAT, addrs ...netip.Addr) {
	for _, addr := range h.addrs {
		delete(h.realm.at, addr)
		for nat := h.realm.above; nat != nil && global6(addr); nat = nat.outer.above {
			delete(nat.outer.at, addr)
		}
	}
	h.attach(h.net.realmBehind(behind), addrs)
}

func (h *Host) attach(r *realm, addrs []netip.Addr) {
	h.realm, h.addrs = r, slices.Clone(addrs)
	h.line.up, h.line.down = 0, 0
	for _, addr := range addrs {
		r.claim(addr, place{host: h})
		for nat := r.above; nat != nil && global6(addr); nat = nat.outer.above {
			nat.outer.claim(addr, place{nat: nat})
		}
	}
}

func global6(addr netip.Addr) bool {
	return addr.Is6() && !addr.IsPrivate() && addr.IsGlobalUnicast()
}

// SetLink gives the host's line other qualities, from the next datagram on.
func (h *Host) SetLink(l Link) { h.line.Link = l }

// SetUp switches the host on or off. Off, it neither sends nor receives; its sockets stay.
func (h *Host) SetUp(up bool) { h.off = !up }

func (h *Host) setSide(side int) { h.where = side }

func (h *Host) side() int {
	if h.where != 0 || h.realm.above == nil {
		return h.where
	}
	return h.realm.above.side()
}

// source picks the address to send from as RFC 6724 would: of the target's family, private to private.
func (h *Host) source(to netip.Addr) (netip.Addr, bool) {
	best := netip.Addr{}
	for _, addr := range h.addrs {
		if addr.Is4() != to.Is4() {
			continue
		}
		if addr.IsPrivate() == to.IsPrivate() && addr.IsLinkLocalUnicast() == to.IsLinkLocalUnicast() {
			return addr, true
		}
		if !best.IsValid() {
			best = addr
		}
	}
	return best, best.IsValid()
}

// Receive gets one datagram. Its data is valid until it returns.
type Receive func(now time.Time, from netip.AddrPort, data []byte)

// Socket is a UDP port of a host, on all of its addresses.
type Socket struct {
	host    *Host
	port    uint16
	receive Receive
}

// Listen opens a port, 0 for any free one. It panics where the port is taken. A nil receive drops
// what arrives.
func (h *Host) Listen(port uint16, receive Receive) *Socket {
	if port == 0 {
		for h.sockets[h.next] != nil {
			h.next = max(h.next+1, firstEphemeral)
		}
		port = h.next
		h.next = max(h.next+1, firstEphemeral)
	}
	if h.sockets[port] != nil {
		panic(fmt.Sprintf("memnet: port %d is taken", port))
	}
	s := &Socket{host: h, port: port, receive: receive}
	h.sockets[port] = s
	return s
}

// OnReceive replaces who gets what arrives.
func (s *Socket) OnReceive(receive Receive) { s.receive = receive }

// Addr is the host's first address with the socket's port.
func (s *Socket) Addr() netip.AddrPort { return netip.AddrPortFrom(s.host.addrs[0], s.port) }

// Port is the socket's port.
func (s *Socket) Port() uint16 { return s.port }

// Send sends one datagram; data is copied.
func (s *Socket) Send(to netip.AddrPort, data []byte) {
	h, n := s.host, s.host.net
	p := n.newPacket()
	*p = packet{data: append(p.data[:0], data...), origin: h, realm: h.realm}
	p.dst = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	from, ok := h.source(p.dst.Addr())
	p.src = netip.AddrPortFrom(from, s.port)
	switch {
	case h.off || h.sockets[s.port] != s:
		n.end(whileDown, p)
	case !ok:
		n.end(noRoute, p)
	default:
		n.note(sent, p)
		n.cross(&h.line.Link, &h.line.up, p)
	}
}

// Close frees the port. It is idempotent.
func (s *Socket) Close() {
	if s.host.sockets[s.port] == s {
		delete(s.host.sockets, s.port)
	}
}
