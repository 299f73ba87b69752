package memnet

import (
	"net/netip"
	"testing"
	"time"
)

// kinds are the routers of the field, by the names that RFC 4787 gives what they do.
var kinds = []struct {
	name               string
	cfg                NATConfig
	mapping, filtering Behavior
}{
	{"full cone", FullCone(), EndpointIndependent, EndpointIndependent},
	{"restricted", Restricted(), EndpointIndependent, AddressDependent},
	{"port-restricted", PortRestricted(), EndpointIndependent, AddressAndPortDependent},
	{"symmetric random", SymmetricRandom(), AddressAndPortDependent, AddressAndPortDependent},
	{"symmetric sequential", SymmetricSequential(), AddressAndPortDependent, AddressAndPortDependent},
	{"address-dependent", NATConfig{Mapping: AddressDependent, Filtering: AddressDependent, Ports: RandomPorts}, AddressDependent, AddressDependent},
}

// lab is one host behind a NAT and a server with two addresses and two ports, as RFC 5780 wants it.
type lab struct {
	*Net
	nat     *NAT
	inside  *Socket
	got     *inbox
	servers [2][2]*Socket // address, port
	seen    [2][2]*inbox
}

func newLab(cfg NATConfig) *lab {
	l := &lab{Net: New(3, start), got: new(inbox)}
	l.nat = l.NAT(cfg, nil, addr("203.0.113.1"))
	l.inside = l.Host(l.nat, addr("192.168.1.2")).Listen(5000, l.got.receive)
	for a := range l.servers {
		h := l.Host(nil, netip.AddrFrom4([4]byte{198, 51, 100, byte(a + 1)}))
		for p := range l.servers[a] {
			l.seen[a][p] = new(inbox)
			l.servers[a][p] = h.Listen(uint16(3478+p), l.seen[a][p].receive)
		}
	}
	return l
}

// observe sends to one server and returns as whom it was seen.
func (l *lab) observe(a, p int) netip.AddrPort {
	l.inside.Send(l.servers[a][p].Addr(), []byte("who am I?"))
	l.RunFor(time.Millisecond)
	from := l.seen[a][p].from
	return from[len(from)-1]
}

// reaches tells whether what a server sends to an outside address gets in.
func (l *lab) reaches(a, p int, to netip.AddrPort) bool {
	before := len(l.got.texts)
	l.servers[a][p].Send(to, []byte("hello"))
	l.RunFor(time.Millisecond)
	return len(l.got.texts) > before
}

func TestMappingBehaviour(t *testing.T) {
	for _, kind := range kinds {
		l := newLab(kind.cfg)
		first := l.observe(0, 0)
		if first != l.observe(0, 0) {
			t.Errorf("%s: one flow has two mappings", kind.name)
		}
		if first.Addr() != l.nat.External() {
			t.Errorf("%s: seen as %v", kind.name, first)
		}
		if same := first == l.observe(0, 1); same != (kind.mapping != AddressAndPortDependent) {
			t.Errorf("%s: another port sees the same mapping: %v", kind.name, same)
		}
		if same := first == l.observe(1, 0); same != (kind.mapping == EndpointIndependent) {
			t.Errorf("%s: another address sees the same mapping: %v", kind.name, same)
		}
	}
}

func TestFilteringBehaviour(t *testing.T) {
	for _, kind := range kinds {
		l := newLab(kind.cfg)
		if l.reaches(0, 0, netip.AddrPortFrom(l.nat.External(), 5000)) {
			t.Errorf("%s: reached without a mapping", kind.name)
		}
		out := l.observe(0, 0)
		if !l.reaches(0, 0, out) {
			t.Errorf("%s: no answer gets in", kind.name)
		}
		if in := l.reaches(0, 1, out); in != (kind.filtering != AddressAndPortDependent) {
			t.Errorf("%s: another port gets in: %v", kind.name, in)
		}
		if in := l.reaches(1, 0, out); in != (kind.filtering == EndpointIndependent) {
			t.Errorf("%s: another address gets in: %v", kind.name, in)
		}
		if from := l.got.from[0]; from != l.servers[0][0].Addr() {
			t.Errorf("%s: the server is seen as %v", kind.name, from)
		}
	}
}

func TestPortAllocation(t *testing.T) {
	l := newLab(PortRestricted())
	if port := l.observe(0, 0).Port(); port != 5000 {
		t.Error("preserved as", port)
	}
	other := l.Host(l.nat, addr("192.168.1.3")).Listen(5000, nil)
	other.Send(l.servers[0][0].Addr(), nil)
	l.RunFor(time.Millisecond)
	if from := l.seen[0][0].from[1]; from.Port() == 5000 || from.Port() < lowestPort {
		t.Error("a taken port became", from)
	}
	l = newLab(SymmetricSequential())
	if a, b, c := l.observe(0, 0).Port(), l.observe(0, 1).Port(), l.observe(1, 0).Port(); b != a+1 || c != a+2 {
		t.Error("sequential:", a, b, c)
	}
	l = newLab(SymmetricRandom())
	if a, b, c := l.observe(0, 0).Port(), l.observe(0, 1).Port(), l.observe(1, 0).Port(); b-a == c-b {
		t.Error("random:", a, b, c)
	}
}

func TestMappingTimeout(t *testing.T) {
	const timeout = 30 * time.Second
	for _, inboundRefresh := range []bool{false, true} {
		cfg := PortRestricted()
		cfg.Timeout, cfg.InboundRefresh = timeout, inboundRefresh
		l := newLab(cfg)
		out := l.observe(0, 0)
		l.RunFor(timeout / 2)
		if l.observe(0, 0) != out {
			t.Error("mapping changed while alive")
		}
		l.RunFor(timeout - time.Second)
		if !l.reaches(0, 0, out) {
			t.Error("an outbound datagram did not refresh the mapping")
		}
		l.RunFor(2 * time.Second)
		if in := l.reaches(0, 0, out); in != inboundRefresh {
			t.Errorf("inbound refresh %v: reached %v", inboundRefresh, in)
		}
		l.RunFor(timeout + time.Second)
		if l.reaches(0, 0, out) {
			t.Error("an idle mapping lives on")
		}
	}
	cfg := SymmetricSequential()
	cfg.Timeout = timeout
	l := newLab(cfg)
	out := l.observe(0, 0)
	l.RunFor(timeout + time.Second)
	if l.observe(0, 0) == out {
		t.Error("an expired mapping came back")
	}
}

func TestRebootAndReaddress(t *testing.T) {
	l := newLab(FullCone())
	out := l.observe(0, 0)
	l.nat.Reboot()
	if l.reaches(0, 0, out) {
		t.Error("a mapping survived the reboot")
	}
	l.nat.Readdress(addr("203.0.113.77"))
	if again := l.observe(0, 0); again.Addr() != addr("203.0.113.77") || !l.reaches(0, 0, again) {
		t.Error("seen as", again)
	}
	if l.reaches(0, 0, out) {
		t.Error("the old address leads somewhere")
	}
	l.nat.SetUp(false)
	l.inside.Send(l.servers[0][0].Addr(), nil)
	if l.reaches(0, 0, l.inside.Addr()) || l.Stats()["down"] != 1 {
		t.Error(l.Stats())
	}
}

func TestHairpin(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		cfg := FullCone()
		cfg.Hairpin = hairpin
		l := newLab(cfg)
		out := l.observe(0, 0)
		neighbour := l.Host(l.nat, addr("192.168.1.3")).Listen(6000, nil)
		neighbour.Send(out, []byte("round the corner"))
		neighbour.Send(l.inside.Addr(), []byte("direct"))
		l.RunFor(time.Millisecond)
		want := 1
		if hairpin {
			want = 2
			if from := l.got.from[0]; from != netip.AddrPortFrom(l.nat.External(), 6000) {
				t.Error("hairpinned source is", from)
			}
		}
		if len(l.got.texts) != want {
			t.Errorf("hairpin %v: got %q", hairpin, l.got.texts)
		}
	}
}

func TestCarrierGrade(t *testing.T) {
	n := New(1, start)
	carrier := n.NAT(PortRestricted(), nil, addr("203.0.113.1"))
	home := n.NAT(FullCone(), carrier, addr("100.64.0.2"))
	var got, seen inbox
	inside := n.Host(home, addr("192.168.1.2")).Listen(5000, got.receive)
	server := n.Host(nil, addr("198.51.100.1"))
	s, other := server.Listen(1, seen.receive), server.Listen(2, nil)
	inside.Send(s.Addr(), nil)
	n.RunFor(time.Second)
	if seen.from[0] != netip.MustParseAddrPort("203.0.113.1:5000") {
		t.Fatal("seen as", seen.from[0])
	}
	s.Send(seen.from[0], nil)
	other.Send(seen.from[0], nil) // the worse of the two decides
	n.RunFor(time.Second)
	if len(got.from) != 1 || got.from[0] != s.Addr() {
		t.Fatal(got.from)
	}
}

// IPv6 passes untranslated; the router still wants to have seen something go out.
func TestIPv6Firewall(t *testing.T) {
	for _, kind := range kinds {
		n := New(1, start)
		home := n.NAT(kind.cfg, n.NAT(FullCone(), nil, addr("203.0.113.1")), addr("100.64.0.2"))
		var got, seen inbox
		h := n.Host(home, addr("192.168.1.2"), addr("fd00::2"), addr("2001:db8:1::2"))
		inside := h.Listen(5000, got.receive)
		server := n.Host(nil, addr("2001:db8::1"))
		s, other := server.Listen(1, seen.receive), server.Listen(2, nil)
		to := netip.MustParseAddrPort("[2001:db8:1::2]:5000")
		s.Send(to, nil)
		n.RunFor(time.Second)
		if len(got.from) != 0 {
			t.Fatalf("%s: reached unasked", kind.name)
		}
		inside.Send(s.Addr(), nil)
		n.RunFor(time.Second)
		if len(seen.from) != 1 || seen.from[0] != to {
			t.Fatalf("%s: seen as %v", kind.name, seen.from)
		}
		s.Send(to, nil)
		other.Send(to, nil)
		n.RunFor(time.Second)
		want := 2
		if kind.filtering == AddressAndPortDependent {
			want = 1
		}
		if len(got.from) != want {
			t.Fatalf("%s: got %v", kind.name, got.from)
		}
		h.Move(nil, addr("2001:db8:1::2"))
		other.Send(to, nil)
		n.RunFor(time.Second)
		if len(got.from) != want+1 {
			t.Fatalf("%s: unreachable after the move to the open", kind.name)
		}
	}
}

func TestMappingsAreSwept(t *testing.T) {
	cfg := SymmetricRandom()
	cfg.Timeout = time.Second
	l := newLab(cfg)
	for port := range uint16(20_000) {
		l.inside.Send(netip.AddrPortFrom(l.servers[0][0].Addr().Addr(), port), nil)
		l.RunFor(10 * time.Millisecond)
	}
	if kept := len(l.nat.byInner); kept > 2*sweepAtLeast || kept != len(l.nat.byOuter) {
		t.Fatal(kept, len(l.nat.byOuter))
	}
}

func TestPortsRunOut(t *testing.T) {
	l := newLab(SymmetricRandom())
	for i := range uint16(mostPorts) {
		l.inside.Send(netip.AddrPortFrom(l.servers[0][0].Addr().Addr(), i+1), nil)
	}
	l.inside.Send(l.servers[1][0].Addr(), nil)
	if l.Stats()["no port left"] != 1 {
		t.Fatal(l.Stats())
	}
	l.RunFor(l.nat.cfg.Timeout + time.Second)
	l.observe(0, 0)
}
