package nat

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
)

type kind struct {
	name      string
	cfg       memnet.NATConfig
	mapping   protocol.Mapping
	filtering Filtering
	hairpin   Tri // with Hairpin set in cfg
}

func hashed(c memnet.NATConfig) memnet.NATConfig {
	c.Ports = memnet.RandomPorts // independent of the endpoint, and another port than inside
	return c
}

var kinds = []kind{
	{"full cone", memnet.FullCone(), protocol.MappingIndependent, FilteringIndependent, Yes},
	{"restricted", memnet.Restricted(), protocol.MappingIndependent, FilteringAddress, Yes},
	{"port-restricted", memnet.PortRestricted(), protocol.MappingIndependent, FilteringPort, Yes},
	{"port not kept", hashed(memnet.PortRestricted()), protocol.MappingIndependent, FilteringPort, Yes},
	{"symmetric random", memnet.SymmetricRandom(), protocol.MappingRandom, FilteringPort, No},
	{"symmetric sequential", memnet.SymmetricSequential(), protocol.MappingSequential, FilteringPort, No},
}

// Every kind of NAT is classed rightly, whatever the seed, with and without loss.
func TestKinds(t *testing.T) {
	for _, loss := range []float64{0, 0.1} {
		for _, k := range kinds {
			for _, servers := range []int{2, 3} {
				t.Run(fmt.Sprintf("%s, %d servers, loss %v", k.name, servers, loss), func(t *testing.T) {
					wrong := 0
					for seed := range uint64(60) {
						cfg := k.cfg
						cfg.Hairpin = seed%2 == 1
						r := newWorld(t, seed, servers, home(cfg, loss)).measure()
						hairpin := No
						if cfg.Hairpin {
							hairpin = k.hairpin
						}
						v := r.V4
						if loss == 0 && servers == 3 && v.Hairpin != hairpin {
							t.Errorf("seed %d: hairpin %v", seed, v.Hairpin)
						}
						if r.UDP != Yes || !v.Works || v.NAT != Yes || r.V6.Works || v.Mapped.Addr() != ip("203.0.113.7") {
							t.Errorf("seed %d: %+v", seed, r)
						}
						if v.Mapping != k.mapping || v.Filtering != k.filtering || v.Mapping == protocol.MappingSequential && v.Step != 1 {
							wrong++
							if loss == 0 || v.Mapping != k.mapping && v.Mapping != protocol.MappingUnknown {
								t.Errorf("seed %d: mapping %v step %d, filtering %v", seed, v.Mapping, v.Step, v.Filtering)
							}
						}
					}
					if wrong > 1 {
						t.Errorf("%d of 60 are wrong or unknown", wrong)
					}
				})
			}
		}
	}
}

func open(n *memnet.Net) (*memnet.NAT, []netip.Addr) { return nil, []netip.Addr{ip("203.0.113.9")} }

func TestWithoutNAT(t *testing.T) {
	for _, servers := range []int{1, 2, 3} {
		r := newWorld(t, 1, servers, open).measure()
		want := FilteringIndependent
		if servers == 1 {
			want = FilteringAddress // there is nobody who was not written to
		}
		if r.V4.NAT != No || r.V4.Mapping != protocol.MappingIndependent || r.V4.Filtering != want || r.Carrier != No ||
			r.V4.Mapped != netip.MustParseAddrPort("203.0.113.9:7700") {
			t.Errorf("%d servers: %+v", servers, r)
		}
	}
}

// One server is enough for a NAT that keeps ports or counts them; nothing is guessed for others.
func TestOneServer(t *testing.T) {
	for _, k := range kinds {
		want := k.mapping
		if k.name == "symmetric random" || k.name == "port not kept" {
			want = protocol.MappingUnknown
		}
		if r := newWorld(t, 3, 1, home(k.cfg, 0)).measure(); r.V4.Mapping != want {
			t.Errorf("%s: %v", k.name, r.V4.Mapping)
		}
	}
}

func TestNoServerAnswers(t *testing.T) {
	w := newWorld(t, 1, 3, home(memnet.FullCone(), 0))
	w.host.SetLink(memnet.Link{Loss: 1})
	if r := w.measure(); r.UDP != No || r.V4 != (Family{}) || r.Carrier != Unknown || len(r.Servers) != 3 {
		t.Errorf("%+v", r)
	}
	if r := newWorld(t, 1, 0, open).measure(); r.UDP != Unknown {
		t.Errorf("%+v", r)
	}
}

// The server that the filtering socket is to write to first, or a stranger, may be away.
func TestServersAway(t *testing.T) {
	for away := range 3 {
		for _, k := range kinds {
			w := newWorld(t, 5, 3, home(k.cfg, 0))
			w.servers[away].main.Close()
			if r := w.measure(); r.V4.Mapping != k.mapping || r.V4.Filtering != k.filtering {
				t.Errorf("%s without server %d: %v %v", k.name, away, r.V4.Mapping, r.V4.Filtering)
			}
		}
	}
}

func TestIPv6(t *testing.T) {
	for _, k := range kinds[:3] {
		behind := func(n *memnet.Net) (*memnet.NAT, []netip.Addr) {
			nat, own := home(k.cfg, 0)(n)
			return nat, append(own, ip("2001:db8:99::5"), ip("fd00::5"))
		}
		r := newWorld(t, 2, 3, behind).measure()
		if v := r.V6; !v.Works || v.NAT != No || v.Mapping != protocol.MappingIndependent || v.Filtering != k.filtering ||
			v.Mapped != netip.MustParseAddrPort("[2001:db8:99::5]:7700") || v.Hairpin != Unknown {
			t.Errorf("%s: %+v", k.name, v)
		}
		if r.V4.Mapping != k.mapping {
			t.Errorf("%s: IPv4 beside IPv6: %+v", k.name, r.V4)
		}
	}
	only6 := func(*memnet.Net) (*memnet.NAT, []netip.Addr) { return nil, []netip.Addr{ip("2001:db8:99::5")} }
	if r := newWorld(t, 2, 3, only6).measure(); r.V4.Works || !r.V6.Works || r.UDP != Yes {
		t.Errorf("%+v", r)
	}
}

func carrierGrade(n *memnet.Net) (*memnet.NAT, []netip.Addr) {
	outer := n.NAT(hashed(memnet.PortRestricted()), nil, ip("203.0.113.1"))
	return n.NAT(memnet.FullCone(), outer, ip("100.64.0.2")), []netip.Addr{ip("192.168.1.2")}
}

func TestCarrier(t *testing.T) {
	for name, c := range map[string]struct {
		hop    Event
		extern []netip.Addr
		own    []netip.Addr
		want   Tri
	}{
		"nothing is known":            {want: Unknown},
		"the hop is shared":           {hop: Event{Hop: ip("100.64.0.1")}, want: Yes},
		"the hop is private":          {hop: Event{Hop: ip("10.1.2.3")}, want: Yes},
		"the hop is public":           {hop: Event{Hop: ip("203.0.113.250")}, want: No},
		"the server is there":         {hop: Event{Reached: true}, want: No},
		"the router is in the middle": {extern: []netip.Addr{ip("100.64.0.2")}, want: Yes},
		"the router is outside":       {extern: []netip.Addr{ip("203.0.113.1")}, hop: Event{Hop: ip("10.1.2.3")}, want: No},
		"the router knows nothing":    {extern: []netip.Addr{ip("0.0.0.0")}, want: Unknown},
		"the machine is inside":       {own: []netip.Addr{ip("100.64.3.3")}, want: Yes},
	} {
		w := newWorld(t, 1, 3, carrierGrade)
		w.hop, w.extern = c.hop, c.extern
		w.own = append(w.own, c.own...)
		if r := w.measure(); r.Carrier != c.want || r.V4.Mapping != protocol.MappingIndependent || r.V4.Filtering != FilteringPort {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// One liar among three makes no class wrong and has nothing sent to an address that he names; among two he may make a class
// unknown.
func TestLiar(t *testing.T) {
	victim := netip.MustParseAddrPort("192.0.2.66:53")
	lies := map[string]func(s *server){
		"another host": func(s *server) { s.mapped = func(netip.AddrPort) netip.AddrPort { return victim } },
		"another port": func(s *server) {
			s.mapped = func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()^0x5555) }
		},
		"its own":  func(s *server) { s.mapped = func(netip.AddrPort) netip.AddrPort { return s.V4 } },
		"no probe": func(s *server) { s.mute = true },
	}
	for name, lie := range lies {
		for _, k := range kinds {
			for liar := range 3 {
				for seed := range uint64(5) {
					w := newWorld(t, seed, 3, home(k.cfg, 0))
					lie(w.servers[liar])
					r := w.measure()
					if r.V4.Mapping != k.mapping || r.V4.Mapped.Addr() != ip("203.0.113.7") {
						t.Errorf("%s by %d, %s: %+v", name, liar, k.name, r.V4)
					}
					if r.V4.Filtering != k.filtering && r.V4.Filtering < k.filtering && r.V4.Filtering != FilteringUnknown {
						t.Errorf("%s by %d, %s: filtering %v", name, liar, k.name, r.V4.Filtering)
					}
					if w.sent[victim.Addr()] > 0 {
						t.Errorf("%s by %d, %s: the victim got %d", name, liar, k.name, w.sent[victim.Addr()])
					}
				}
			}
		}
	}
	for name, lie := range lies {
		for _, k := range kinds {
			w := newWorld(t, 1, 2, home(k.cfg, 0))
			lie(w.servers[0])
			r := w.measure()
			if name == "another host" && (r.V4.Mapped.IsValid() || r.V4.Mapping != protocol.MappingUnknown) {
				t.Errorf("%s, %s: %+v", name, k.name, r.V4)
			}
			if w.sent[victim.Addr()] > 0 {
				t.Errorf("%s, %s: the victim got %d", name, k.name, w.sent[victim.Addr()])
			}
		}
	}
}

// A probe that comes from where the socket has written to says nothing about strangers.
func TestAccomplice(t *testing.T) {
	w := newWorld(t, 1, 3, home(memnet.PortRestricted(), 0))
	for _, s := range w.servers[:2] {
		s.accomplice = w.servers[2].main
	}
	if r := w.measure(); r.V4.Filtering != FilteringUnknown {
		t.Errorf("%+v", r.V4)
	}
}

// What comes unasked changes nothing.
func TestUnaskedAnswers(t *testing.T) {
	w := newWorld(t, 1, 3, home(memnet.FullCone(), 0))
	m := NewMeasure(w.config())
	m.Step(start, Event{})
	for _, e := range []Event{
		{Kind: Asked, Ask: 77, Sent: true}, {Kind: HopSeen, Reached: true}, {Kind: Opened, Socket: 99, Port: 1},
		{Kind: Received, Socket: 0, From: w.servers[0].V4}, {Kind: Received, Socket: 5, From: w.servers[0].V4, Data: []byte{9}},
		{Kind: Received, Socket: 1, From: w.servers[0].V4, Data: protocol.AppendReachProbe(nil, [16]byte{})},
	} {
		m.Step(start, e)
	}
	if m.hop.over != true || m.families[0].hairpin.answer != Unknown {
		t.Error("believed")
	}
	if out := m.Step(start.Add(MeasureTime), Event{}); out[len(out)-1].Kind != ActionDone || m.Report().UDP != No {
		t.Errorf("%+v", m.Report())
	}
	if m.Step(start.Add(time.Hour), Event{}) != nil || !m.Next().IsZero() {
		t.Error("it goes on")
	}
}
