package memnet

import (
	"fmt"
	"net/netip"
)

// realm is one address space: the internet, or what lies behind one NAT.
type realm struct {
	above *NAT // nil for the internet
	at    map[netip.Addr]place
}

// place is where an address of a realm leads: to a host of it, or down into a NAT.
type place struct {
	host *Host
	nat  *NAT
}

func newRealm(above *NAT) *realm {
	return &realm{above: above, at: make(map[netip.Addr]place)}
}

func (n *Net) realmBehind(nat *NAT) *realm {
	if nat == nil {
		return n.root
	}
	return nat.inner
}

func (r *realm) claim(addr netip.Addr, p place) {
	if _, taken := r.at[addr]; taken || !addr.IsValid() || addr.Is4In6() {
		panic(fmt.Sprintf("memnet: address %v is taken or not usable", addr))
	}
	r.at[addr] = p
}

// stop is what a travelling packet reaches next.
type stop uint8

const (
	atRealm stop = iota // realm decides where to
	atNAT               // the outside of nat
	atHost
)

type packet struct {
	src, dst netip.AddrPort
	data     []byte
	origin   *Host

	stop  stop
	realm *realm
	nat   *NAT
	host  *Host
}

func (n *Net) newPacket() *packet {
	last := len(n.free) - 1
	if last < 0 {
		return new(packet)
	}
	p := n.free[last]
	n.free = n.free[:last]
	return p
}

func (n *Net) clone(p *packet) *packet {
	twin := n.newPacket()
	data := append(twin.data[:0], p.data...)
	*twin = *p
	twin.data = data
	return twin
}

func (n *Net) proceed(p *packet) {
	switch p.stop {
	case atRealm:
		n.route(p.realm, p)
	case atNAT:
		n.descend(p.nat, p)
	case atHost:
		n.deliver(p.host, p)
	}
}

// route finds the way of p in r: to a host, down into a NAT, or up.
func (n *Net) route(r *realm, p *packet) {
	switch to := r.at[p.dst.Addr()]; {
	case to.host != nil:
		p.stop, p.host, p.realm = atHost, to.host, r
		n.cross(&to.host.line.Link, &to.host.line.down, p)
	case to.nat != nil:
		p.stop, p.nat = atNAT, to.nat
		n.cross(&to.nat.line.Link, &to.nat.line.down, p)
	case r.above != nil:
		n.climb(r.above, p)
	default:
		n.end(noRoute, p)
	}
}

// climb takes p from the inside of nat to the realm above, or back in where p is for nat's own
// outside address.
func (n *Net) climb(nat *NAT, p *packet) {
	back := p.dst.Addr() == nat.external
	switch {
	case nat.off:
		n.end(whileDown, p)
		return
	case back && !nat.cfg.Hairpin:
		n.end(noHairpin, p)
		return
	}
	if !nat.outbound(p) {
		n.end(noPort, p)
		return
	}
	if back {
		n.descend(nat, p)
		return
	}
	p.stop, p.realm = atRealm, nat.outer
	n.cross(&nat.line.Link, &nat.line.up, p)
}

// descend takes p from the outside of nat to its inside.
func (n *Net) descend(nat *NAT, p *packet) {
	if nat.off {
		n.end(whileDown, p)
		return
	}
	if why := nat.inbound(p); why != delivered {
		n.end(why, p)
		return
	}
	// A mapping may outlive its host; what is gone must not climb out again.
	if _, known := nat.inner.at[p.dst.Addr()]; !known {
		n.end(noRoute, p)
		return
	}
	n.route(nat.inner, p)
}

func (n *Net) deliver(h *Host, p *packet) {
	socket := h.sockets[p.dst.Port()]
	switch {
	case h.off:
		n.end(whileDown, p)
	case h.realm.at[p.dst.Addr()].host != h || h.realm != p.realm:
		n.end(noRoute, p) // it moved away meanwhile
	case n.split && h.side() != p.origin.side():
		n.end(whileSplit, p)
	case socket == nil || socket.receive == nil:
		n.end(noSocket, p)
	default:
		n.note(delivered, p)
		socket.receive(n.Now(), p.src, p.data)
		n.free = append(n.free, p)
	}
}

// Node is a Host or a NAT.
type Node interface{ setSide(int) }

// Split cuts the internet into the given groups and one of all the others: no datagram arrives
// from another group. A NAT stands for all that is behind it. A new Split replaces the last one.
func (n *Net) Split(groups ...[]Node) {
	n.Heal()
	n.split = true
	for i, group := range groups {
		for _, node := range group {
			node.setSide(i + 1)
			n.sides = append(n.sides, node)
		}
	}
}

// Heal ends a Split.
func (n *Net) Heal() {
	for _, node := range n.sides {
		node.setSide(0)
	}
	n.sides = n.sides[:0]
	n.split = false
}
