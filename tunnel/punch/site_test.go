package punch

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
)

// met runs a meeting and wants a path at both ends that carries.
func (w *world) met(t *testing.T, name string, seed uint64) bool {
	t.Helper()
	w.meet(t, seed)
	u, n := w.ends[0], w.ends[1]
	if u.found == nil || n.found == nil {
		t.Errorf("%s, seed %d: %v, %v", name, seed, u.err, n.err)
		return false
	}
	w.carries(t)
	return true
}

// failed runs a meeting and wants both ends to give up for the reason, within the time.
func (w *world) failed(t *testing.T, name string, seed uint64, why error, within time.Duration) {
	t.Helper()
	w.meet(t, seed)
	for i, e := range w.ends {
		if !errors.Is(e.err, why) || e.took > within {
			t.Errorf("%s, seed %d, end %d: %v after %v, want %v within %v", name, seed, i, e.err, e.took, why, within)
		}
	}
}

func TestBothHardFailAtOnce(t *testing.T) {
	for _, k := range [][2]kind{{random, random}, {random, sequential}, {sequential, random}} {
		w := newWorld(1)
		w.site(0, k[0], nil, 0)
		w.site(1, k[1], nil, 0)
		w.failed(t, k[0].name+" × "+k[1].name, 1, ErrBothHard, 2*signalling)
		if sent := w.ends[0].m.Stats().Sent + w.ends[1].m.Stats().Sent; sent != 0 {
			t.Errorf("%d packets sent for nothing", sent)
		}
	}
}

// Two at one router: by its hairpin, or by their private addresses where they know that they share a location.
func TestOneRouter(t *testing.T) {
	for _, k := range []kind{fullCone, portRestricted, otherPort, random, sequential} {
		for _, local := range []bool{false, true} {
			for _, hairpin := range []bool{false, true} {
				for seed := range uint64(20 / fewer) {
					w := newWorld(seed)
					cfg := *k.nat
					cfg.Hairpin = hairpin
					nat := w.NAT(cfg, nil, addr("203.0.113.1"))
					loss := .1 * float64(seed%2)
					for i, inside := range []string{"192.168.1.2", "192.168.1.3"} {
						w.end(i, w.Host(nat, addr(inside)), k.mapping, loss).local = local
					}
					name := k.name + " router"
					switch {
					case local:
						if w.met(t, name, seed) && loss == 0 && !w.ends[0].found.Remote.Addr().IsPrivate() {
							t.Errorf("%s, seed %d: %v chosen, not the private address", name, seed, w.ends[0].found.Remote)
						}
					case isHard(k) && k.mapping == protocol.MappingRandom:
						w.failed(t, name, seed, ErrBothHard, time.Second)
					case isHard(k): // they take each other's ports: no promise
					case hairpin:
						w.met(t, name, seed)
					default:
						w.failed(t, name, seed, ErrSilent, plainTime+2*signalling)
					}
				}
			}
		}
	}
}

func TestBehindOneCarrier(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		for seed := range uint64(40 / fewer) {
			w := newWorld(seed)
			cfg := memnet.PortRestricted()
			cfg.Hairpin = hairpin
			carrier := w.NAT(cfg, nil, addr("203.0.113.99"))
			w.site(0, portRestricted, carrier, .1)
			w.site(1, otherPort, carrier, .1)
			if hairpin {
				w.met(t, "one carrier", seed)
			} else {
				w.failed(t, "one carrier without hairpin", seed, ErrSilent, plainTime+2*signalling)
			}
		}
	}
}

// A home behind a carrier's NAT meets every kind of site, as the worse of its two NATs does.
func TestDoubleNAT(t *testing.T) {
	for _, outer := range []kind{portRestricted, sequential, random} {
		for _, k := range allKinds {
			for seed := range uint64(max(10/fewer, 1)) {
				w := newWorld(seed)
				carrier := w.NAT(*outer.nat, nil, addr("203.0.113.99"))
				home := portRestricted
				home.mapping = outer.mapping
				w.site(int(seed%2), home, carrier, .1)
				w.site(1-int(seed%2), k, nil, .1)
				if name := outer.name + " carrier × " + k.name; !isHard(k) || !isHard(outer) {
					w.met(t, name, seed)
				} else if k.mapping != protocol.MappingSequential || outer.mapping != protocol.MappingSequential {
					w.failed(t, name, seed, ErrBothHard, time.Second)
				}
			}
		}
	}
}

// dual gives an end an IPv6 address behind the firewall of its router.
func dual(w *world, i int, k kind) *end {
	external, inside := netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), netip.AddrFrom4([4]byte{192, 168, byte(i + 1), 2})
	global := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)})
	e := w.end(i, w.Host(w.NAT(*k.nat, nil, external), inside, global), k.mapping, .1)
	e.candidate(protocol.CandidateHost, netip.AddrPortFrom(global, 7700), 200)
	return e
}

// IPv6 passes both firewalls, also where the IPv4 NATs are hopeless, and is preferred where IPv4 works as well.
func TestIPv6(t *testing.T) {
	for _, k := range [][2]kind{{random, random}, {random, sequential}, {sequential, sequential}, {portRestricted, portRestricted}} {
		for seed := range uint64(20 / fewer) {
			w := newWorld(seed)
			dual(w, 0, k[0])
			dual(w, 1, k[1])
			if name := k[0].name + " × " + k[1].name; w.met(t, name, seed) && isHard(k[0]) && isHard(k[1]) &&
				k[1].mapping == protocol.MappingRandom && !w.ends[0].found.Remote.Addr().Is6() {
				t.Errorf("%s, seed %d: by %v", name, seed, w.ends[0].found.Remote)
			}
		}
	}
	w := newWorld(7)
	dual(w, 0, portRestricted).host.SetLink(memnet.Link{Latency: lineLatency})
	dual(w, 1, portRestricted).host.SetLink(memnet.Link{Latency: lineLatency})
	if w.met(t, "both families", 7) && !w.ends[0].found.Remote.Addr().Is6() {
		t.Errorf("both families work, and %v was chosen", w.ends[0].found.Remote)
	}
}

// What nobody knows of is treated as the likely case first, and as the worst one where the other side allows it.
func TestUnknownMapping(t *testing.T) {
	unknown := func(k kind) kind { k.mapping = protocol.MappingUnknown; return k }
	for _, k := range [][2]kind{
		{unknown(portRestricted), portRestricted}, {portRestricted, unknown(portRestricted)},
		{unknown(portRestricted), unknown(portRestricted)}, {unknown(random), portRestricted}, {portRestricted, unknown(random)},
		{unknown(portRestricted), random}, {unknown(portRestricted), sequential}, {sequential, unknown(portRestricted)},
		{unknown(sequential), portRestricted},
	} {
		got := 0
		for seed := range uint64(40 / fewer) {
			w := newWorld(seed)
			w.site(0, k[0], nil, .1)
			w.site(1, k[1], nil, .1)
			w.meet(t, seed)
			if w.ends[0].found != nil && w.ends[1].found != nil {
				w.carries(t)
				got++
			}
		}
		if got < 38/fewer {
			t.Errorf("%s × %s, one not known: %d of 40", k[0].name, k[1].name, got)
		}
	}
	w := newWorld(1)
	w.site(0, unknown(random), nil, 0)
	w.site(1, unknown(portRestricted), nil, 0)
	w.failed(t, "neither known", 1, ErrSilent, plainTime+2*signalling)
}

// Other traffic at the sequential NAT makes prediction miss; the ports near by and the birthday method are left.
func TestPredictionMisses(t *testing.T) {
	for _, others := range []int{30, 100, 500, 5000} {
		got := 0
		for seed := range uint64(40 / fewer) {
			w := newWorld(seed)
			w.site(0, portRestricted, nil, 0)
			e := w.site(1, sequential, nil, 0)
			for range others {
				s := e.host.Listen(0, nil)
				s.Send(w.observers[0].Addr(), nil)
				s.Close()
			}
			w.RunFor(time.Second)
			w.meet(t, seed)
			if w.ends[0].found != nil && w.ends[1].found != nil {
				w.carries(t)
				got++
			}
			if n := w.ends[0].m.Stats().Probes; n > mostProbes {
				t.Errorf("%d probes", n)
			}
		}
		t.Logf("%d ports taken by others: %d of 40", others, got)
		if got < 38/fewer {
			t.Errorf("%d ports taken by others: %d of 40", others, got)
		}
	}
}

// A NAT whose ports follow each other downwards or in steps, and one that wraps.
func TestAhead(t *testing.T) {
	for _, c := range []struct {
		port uint16
		step uint16
		k    int
		want uint16
	}{
		{40000, 1, 1, 40001}, {40000, 2, 3, 40006}, {40000, 65535, 1, 39999}, {40000, 0, 5, 40005}, {65535, 1, 1, 1024},
		{1024, 65535, 1, 65535}, {65530, 2, 64, 65530 + 128 - 64512}, {80, 1, 1, 1025}, {65535, 32767, 64, 0},
	} {
		got := ahead(c.port, stride(c.step), c.k)
		if got != c.want && c.want != 0 || got < lowestPort {
			t.Errorf("%d ahead of %d by %d: %d, want %d", c.k, c.port, c.step, got, c.want)
		}
	}
}

func TestNoSockets(t *testing.T) {
	for _, c := range []struct {
		deaf int
		want bool
	}{{256, false}, {200, true}} {
		w := newWorld(3)
		w.site(0, portRestricted, nil, 0)
		w.site(1, random, nil, 0).deaf = c.deaf
		w.meet(t, 3)
		if n := w.ends[1]; c.want && n.found == nil || !c.want && !errors.Is(n.err, ErrSockets) {
			t.Errorf("%d sockets of 256 refused: %v, %v", c.deaf, n.found, n.err)
		}
	}
}

func TestReasons(t *testing.T) {
	lone := func(s Setup) error {
		s.End = punchEnd(t, s.Requester)
		m := New(epoch, s)
		a := m.Step(epoch, Tick{})
		for !a.Done {
			a = m.Step(a.Next, Tick{})
		}
		return a.Failed
	}
	wanted := protocol.Punch{Wanted: true, Mapping: protocol.MappingIndependent}
	at := func(s string) Side {
		a := protocol.AddrOf(netip.MustParseAddrPort(s))
		return Side{[]protocol.Candidate{{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: a, Priority: 1}}, wanted}
	}
	for name, c := range map[string]struct {
		setup Setup
		want  error
	}{
		"no UDP":     {Setup{Requester: true, Mine: wanted}, ErrUnwanted},
		"no answer":  {Setup{Requester: true, Mine: wanted, Waits: true, Peer: at("203.0.113.1:7")}, ErrNoAnswer},
		"no address": {Setup{Mine: wanted, Peer: Side{Punch: wanted}}, ErrNoAddress},
		"private":    {Setup{Mine: wanted, Peer: at("192.168.1.1:7")}, ErrNoAddress},
		"loopback":   {Setup{Mine: wanted, Peer: at("127.0.0.1:7"), Local: true}, ErrNoAddress},
		"multicast":  {Setup{Mine: wanted, Peer: at("224.0.0.1:7"), Local: true}, ErrNoAddress},
		"nobody":     {Setup{Mine: wanted, Peer: at("203.0.113.1:7")}, ErrSilent},
	} {
		if got := lone(c.setup); !errors.Is(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
