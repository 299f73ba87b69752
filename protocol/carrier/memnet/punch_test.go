package memnet

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// puncher is one side: what it has learnt about the other, and whether it hears it.
type puncher struct {
	socket  *Socket
	targets []netip.AddrPort
	heard   bool
}

func (p *puncher) receive(_ time.Time, from netip.AddrPort, _ []byte) {
	if !p.heard {
		p.heard, p.targets = true, []netip.AddrPort{from} // an address that answers beats a guess
	}
}

// observed is the side's mapping as a server on the open internet sees it.
func (p *puncher) observed(n *Net, server *Socket) netip.AddrPort {
	var seen netip.AddrPort
	server.OnReceive(func(_ time.Time, from netip.AddrPort, _ []byte) { seen = from })
	p.socket.Send(server.Addr(), []byte("observe"))
	n.RunFor(100 * time.Millisecond)
	return seen
}

// punch has both sides send every 50 ms and tells whether both hear each other within 3 s. ahead is
// how many ports beyond the observed one each side tries as well.
func punch(n *Net, server *Socket, a, b *puncher, aheadOfA, aheadOfB int) bool {
	learn := func(p, other *puncher, ahead int) {
		seen := other.observed(n, server)
		for i := range ahead + 1 {
			p.targets = append(p.targets, netip.AddrPortFrom(seen.Addr(), seen.Port()+uint16(i)))
		}
	}
	learn(a, b, aheadOfB)
	learn(b, a, aheadOfA)
	for end := n.Now().Add(3 * time.Second); n.Now().Before(end) && !(a.heard && b.heard); n.RunFor(50 * time.Millisecond) {
		for _, p := range []*puncher{a, b} {
			for _, to := range p.targets {
				p.socket.Send(to, []byte("punch"))
			}
		}
	}
	return a.heard && b.heard
}

// site is a home of the given kind on its own internet address; nil stands for none.
func site(n *Net, cfg *NATConfig, behind *NAT, external string) *puncher {
	p := new(puncher)
	link := Link{Latency: 10 * time.Millisecond}
	if cfg == nil {
		h := n.Host(nil, addr(external))
		h.SetLink(link)
		p.socket = h.Listen(7700, p.receive)
		return p
	}
	home := *cfg
	home.Link = link
	p.socket = n.Host(n.NAT(home, behind, addr(external)), addr("192.168.1.2")).Listen(7700, p.receive)
	return p
}

func observer(n *Net) *Socket { return n.Host(nil, addr("198.51.100.1")).Listen(3478, nil) }

func TestPunching(t *testing.T) {
	type home struct {
		name string
		cfg  *NATConfig
	}
	homes := []home{{"open", nil}}
	for _, kind := range kinds[:5] {
		homes = append(homes, home{kind.name, &kind.cfg})
	}
	symmetric := func(h home) bool { return h.cfg != nil && h.cfg.Mapping == AddressAndPortDependent }
	strict := func(h home) bool { return h.cfg != nil && h.cfg.Filtering == AddressAndPortDependent }
	for _, a := range homes {
		for _, b := range homes {
			n := New(5, start)
			server := observer(n)
			got := punch(n, server, site(n, a.cfg, nil, "203.0.113.1"), site(n, b.cfg, nil, "203.0.113.2"), 0, 0)
			want := !(symmetric(a) && strict(b) || symmetric(b) && strict(a))
			if got != want {
				t.Errorf("%s × %s: %v, want %v", a.name, b.name, got, want)
			}
		}
	}
}

func TestPunchingWithPrediction(t *testing.T) {
	for name, c := range map[string]struct {
		hard NATConfig
		want bool
	}{"sequential": {SymmetricSequential(), true}, "random": {SymmetricRandom(), false}} {
		easy := PortRestricted()
		n := New(5, start)
		server := observer(n)
		if got := punch(n, server, site(n, &c.hard, nil, "203.0.113.1"), site(n, &easy, nil, "203.0.113.2"), 4, 0); got != c.want {
			t.Errorf("%s × port-restricted: %v", name, got)
		}
	}
}

func TestPunchingBehindOneCarrier(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		n := New(5, start)
		cfg := PortRestricted()
		cfg.Hairpin = hairpin
		carrier := n.NAT(cfg, nil, addr("203.0.113.1"))
		home := PortRestricted()
		server := observer(n)
		if got := punch(n, server, site(n, &home, carrier, "100.64.0.1"), site(n, &home, carrier, "100.64.0.2"), 0, 0); got != hairpin {
			t.Errorf("carrier with hairpin %v: %v", hairpin, got)
		}
		easy := FullCone()
		m := New(5, start)
		carrier = m.NAT(cfg, nil, addr("203.0.113.1"))
		if !punch(m, observer(m), site(m, &home, carrier, "100.64.0.1"), site(m, &easy, nil, "203.0.113.9"), 0, 0) {
			t.Error("carrier × full cone fails")
		}
	}
}

// 256 sockets behind the symmetric router and guesses at 500 a second from the other side.
func TestPunchingByBirthday(t *testing.T) {
	for seed := range uint64(20) {
		n := New(seed, start)
		hard, easy := SymmetricRandom(), PortRestricted()
		other := site(n, &easy, nil, "203.0.113.2")
		at := other.observed(n, observer(n))
		h := n.Host(n.NAT(hard, nil, addr("203.0.113.1")), addr("192.168.1.2"))
		for range 256 {
			s := h.Listen(0, nil)
			s.OnReceive(func(_ time.Time, from netip.AddrPort, _ []byte) { s.Send(from, []byte("found")) })
			s.Send(at, []byte("open"))
		}
		n.RunFor(100 * time.Millisecond)
		begin := n.Now()
		for guess := 0; !other.heard && n.Now().Sub(begin) < 10*time.Second; guess++ {
			port := lowestPort + uint16(n.rand.Int32N(1<<16-lowestPort))
			other.socket.Send(netip.AddrPortFrom(addr("203.0.113.1"), port), fmt.Append(nil, guess))
			n.RunFor(2 * time.Millisecond)
		}
		if !other.heard {
			t.Errorf("seed %d: not found", seed)
		}
	}
}
