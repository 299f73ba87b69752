package discovery

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// maxReplies bounds the addresses kept of those who answer a ping to everybody.
const maxReplies = 1024

// pinger asks all IPv6 nodes on an interface for an echo. A node that answers may already know our MAC and so not solicit us, which
// leaves our kernel's table without it: the addresses of the answers must be resolved.
type pinger struct {
	on    Interface
	conns map[netip.Addr]*icmp.PacketConn // by our address
	loops sync.WaitGroup

	mu   sync.Mutex
	seen map[netip.Addr]bool
	new  []netip.Addr
}

func newPinger(on Interface) *pinger {
	return &pinger{on: on, conns: make(map[netip.Addr]*icmp.PacketConn), seen: make(map[netip.Addr]bool)}
}

// ask pings from each of our routable addresses, because who is asked from a link-local one answers from a link-local one.
func (p *pinger) ask() {
	echo, err := (&icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: 1, Seq: 1, Data: []byte("culvert")}}).Marshal(nil)
	if err != nil {
		return
	}
	p.open()
	all, zone := netip.IPv6LinkLocalAllNodes(), zoneFor(p.on, netip.IPv6LinkLocalAllNodes())
	for _, c := range p.conns {
		// A socket of the kind that is open to everybody wants a UDP address, a raw one an IP address: one of the two is refused.
		if send(c, echo, &net.UDPAddr{IP: all.AsSlice(), Zone: zone}) != nil {
			_ = send(c, echo, &net.IPAddr{IP: all.AsSlice(), Zone: zone})
		}
	}
}

// open opens what is not open yet: an address that is still tentative can be bound the next time. It tries the socket that systems
// give to everybody, then the one for the privileged; without either, nobody is asked.
func (p *pinger) open() {
	for _, own := range p.on.Prefixes {
		if !own.Addr().Is6() || !deviceAddr(own.Addr()) || p.conns[own.Addr()] != nil {
			continue
		}
		for _, network := range []string{"udp6", "ip6:ipv6-icmp"} {
			c, err := icmp.ListenPacket(network, own.Addr().String())
			if err != nil {
				continue
			}
			var only ipv6.ICMPFilter
			only.SetAll(true)
			only.Accept(ipv6.ICMPTypeEchoReply)
			_ = c.IPv6PacketConn().SetICMPFilter(&only) // the other kind gets nothing else anyway
			p.conns[own.Addr()] = c
			p.loops.Go(func() { p.read(c) })
			break
		}
	}
}

// read ends when its socket is closed.
func (p *pinger) read(c *icmp.PacketConn) {
	b := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var addr netip.Addr
		switch from := from.(type) {
		case *net.UDPAddr:
			addr, _ = netip.AddrFromSlice(from.IP)
		case *net.IPAddr:
			addr, _ = netip.AddrFromSlice(from.IP)
		}
		if err != nil && from == nil {
			return // the socket broke
		}
		p.note(addr)
	}
}

func (p *pinger) note(addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on.reaches(addr) && !p.seen[addr] && len(p.seen) < maxReplies {
		p.seen[addr] = true
		p.new = append(p.new, addr)
	}
}

// replies lists who answered since the last call.
func (p *pinger) replies() []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.new
	p.new = nil
	return out
}

func (p *pinger) close() {
	for _, c := range p.conns {
		_ = c.Close() // only to wake the reader
	}
	p.loops.Wait()
}
