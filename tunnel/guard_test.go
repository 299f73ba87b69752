package tunnel

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/protocol"
	"culvert/tunnel/link"
)

const testDomain protocol.Domain = 0x1234abcd

func testID(n byte) protocol.ID { return protocol.NewID(testDomain, protocol.Hash{n}) }

func prefixes(s ...string) []netip.Prefix {
	var l []netip.Prefix
	for _, p := range s {
		l = append(l, netip.MustParsePrefix(p))
	}
	return l
}

// askFor is a request that the guard admits at a place that it admits.
func askFor() (Ask, Place) {
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	return Ask{
			Device: Device{ID: testID(9), Value: protocol.EndDeviceValue{
				Name: "printer-3", MAC: mac[:], Ports: []protocol.Port{{Number: 9100, Protocol: protocol.TCP}},
			}},
			Requester: &protocol.CertifiedNode{ID: testID(1), Groups: []string{"office"}},
			Port:      9100, Protocol: protocol.TCP, Local: testID(2),
		}, Place{
			Addr: netip.MustParseAddr("192.168.7.50"), MAC: mac, OnLink: true,
			Own: prefixes("192.168.7.10/24", "fd00::10/64"),
		}
}

func TestGuard(t *testing.T) {
	consent := func(port uint16) []Consent {
		return []Consent{{Device: "Printer-3", Ports: []protocol.Port{{Number: port, Protocol: protocol.TCP}}}}
	}
	fixed := func(a *Ask, p *Place, pin bool) {
		a.Device.Value.MAC = nil
		a.Device.Value.Address = netip.MustParseAddr("10.9.0.5")
		p.Addr, p.OnLink, p.MAC = a.Device.Value.Address, false, [6]byte{}
		if pin {
			a.Device.Value.TLSPin = make([]byte, 32)
		}
	}
	own := func(a *Ask, p *Place, id protocol.ID) {
		a.Device.Value.MAC = nil
		a.Device.Value.Node = id
		p.Addr, p.OnLink = loopback(), false
	}
	for name, c := range map[string]struct {
		change func(*Ask, *Place)
		want   link.Reason // none: admitted
	}{
		"registered, on link":       {func(*Ask, *Place) {}, link.ReasonNone},
		"foreign requester":         {func(a *Ask, _ *Place) { a.Requester.ID = protocol.NewID(7, protocol.Hash{1}) }, link.ReasonGroup},
		"foreign device":            {func(a *Ask, _ *Place) { a.Device.ID = protocol.NewID(7, protocol.Hash{1}) }, link.ReasonGroup},
		"other port":                {func(a *Ask, _ *Place) { a.Port = 22 }, link.ReasonPort},
		"port 0":                    {func(a *Ask, _ *Place) { a.Port = 0 }, link.ReasonPort},
		"other protocol":            {func(a *Ask, _ *Place) { a.Protocol = protocol.UDP }, link.ReasonPort},
		"device's groups":           {func(a *Ask, _ *Place) { a.Device.Value.Allow = []string{"admins"} }, link.ReasonGroup},
		"port's groups":             {func(a *Ask, _ *Place) { a.Device.Value.Ports[0].Allow = []string{"admins"} }, link.ReasonGroup},
		"in the groups":             {func(a *Ask, _ *Place) { a.Device.Value.Allow = []string{"admins", "office"} }, link.ReasonNone},
		"another MAC answers":       {func(_ *Ask, p *Place) { p.MAC[5]++ }, link.ReasonTarget},
		"its address, another MAC":  {func(a *Ask, p *Place) { a.Device.Value.Address = p.Addr; p.MAC[5]++ }, link.ReasonTarget},
		"not on link":               {func(_ *Ask, p *Place) { p.OnLink = false }, link.ReasonTarget},
		"itself":                    {func(_ *Ask, p *Place) { p.Addr = p.Own[0].Addr() }, link.ReasonTarget},
		"directed broadcast":        {func(_ *Ask, p *Place) { p.Addr = netip.MustParseAddr("192.168.7.255") }, link.ReasonTarget},
		"list names it":             {func(a *Ask, _ *Place) { a.Consent = consent(9100) }, link.ReasonNone},
		"list names another port":   {func(a *Ask, _ *Place) { a.Consent = consent(631) }, link.ReasonConsent},
		"list wants another group":  {func(a *Ask, _ *Place) { a.Consent = consent(9100); a.Consent[0].Groups = []string{"x"} }, link.ReasonConsent},
		"fixed, nothing":            {func(a *Ask, p *Place) { fixed(a, p, false) }, link.ReasonConsent},
		"fixed, pinned":             {func(a *Ask, p *Place) { fixed(a, p, true) }, link.ReasonNone},
		"fixed, consent":            {func(a *Ask, p *Place) { fixed(a, p, false); a.Consent = consent(9100) }, link.ReasonNone},
		"fixed, pinned, list other": {func(a *Ask, p *Place) { fixed(a, p, true); a.Consent = consent(1) }, link.ReasonConsent},
		"fixed, elsewhere":          {func(a *Ask, p *Place) { fixed(a, p, true); p.Addr = p.Addr.Next() }, link.ReasonTarget},
		"own machine, nothing":      {func(a *Ask, p *Place) { own(a, p, a.Local) }, link.ReasonConsent},
		"own machine, consent":      {func(a *Ask, p *Place) { own(a, p, a.Local); a.Consent = consent(9100) }, link.ReasonNone},
		"another's machine":         {func(a *Ask, p *Place) { own(a, p, testID(5)); a.Consent = consent(9100) }, link.ReasonTarget},
		"own machine, 127.0.0.2": {func(a *Ask, p *Place) {
			own(a, p, a.Local)
			a.Consent = consent(9100)
			p.Addr = p.Addr.Next()
		}, link.ReasonTarget},
	} {
		t.Run(name, func(t *testing.T) {
			a, p := askFor()
			c.change(&a, &p)
			err := Check(a, p)
			var n *NotAllowedError
			if c.want == link.ReasonNone && err != nil || c.want != link.ReasonNone && (!errors.As(err, &n) || n.Reason != c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// hostile is an address that no tunnel may reach, in one of its disguises.
func hostile(r *rand.Rand) netip.Addr {
	four := func(base, bits uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], base|r.Uint32()&(1<<(32-bits)-1))
		return netip.AddrFrom4(b)
	}
	targets := []func() netip.Addr{
		func() netip.Addr { return four(127<<24, 8) }, func() netip.Addr { return four(0, 8) },
		func() netip.Addr { return four(169<<24|254<<16, 16) }, func() netip.Addr { return four(224<<24, 4) },
		func() netip.Addr { return four(240<<24, 4) }, func() netip.Addr { return netip.MustParseAddr("192.168.7.10") },
		func() netip.Addr { return netip.MustParseAddr("192.168.7.255") }, func() netip.Addr { return netip.MustParseAddr("192.168.7.0") },
	}
	a := targets[r.IntN(len(targets))]()
	v4 := a.As4()
	var b [16]byte
	switch r.IntN(12) {
	case 0, 1:
		return a
	case 2: // mapped
		return netip.AddrFrom16(a.As16())
	case 3: // compatible
		copy(b[12:], v4[:])
	case 4: // translated
		b[8], b[9] = 0xff, 0xff
		copy(b[12:], v4[:])
	case 5: // NAT64
		copy(b[:], []byte{0, 0x64, 0xff, 0x9b})
		copy(b[12:], v4[:])
	case 6: // 6to4
		b[0], b[1] = 0x20, 2
		copy(b[2:], v4[:])
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
	case 7: // Teredo client
		b[0], b[1] = 0x20, 1
		for i, c := range v4 {
			b[12+i] = ^c
		}
	case 8: // ISATAP
		copy(b[:], []byte{0xfd, 1})
		b[10], b[11] = 0x5e, 0xfe
		copy(b[12:], v4[:])
	case 9: // link-local
		b[0], b[1] = 0xfe, 0x80|byte(r.IntN(64))
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
	case 10: // multicast
		b[0] = 0xff
		binary.BigEndian.PutUint64(b[8:], r.Uint64())
	case 11: // own, unspecified, loopback
		return []netip.Addr{netip.MustParseAddr("fd00::10"), netip.IPv6Unspecified(), netip.IPv6Loopback()}[r.IntN(3)]
	}
	return netip.AddrFrom16(b)
}

func TestHostileTargetsAreNeverAdmitted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		addr := hostile(r)
		for _, kind := range []string{"mac", "fixed", "fixed by the record itself"} {
			a, p := askFor()
			p.Addr = addr
			if kind != "mac" {
				a.Device.Value.MAC = nil
				a.Device.Value.Address = netip.MustParseAddr("10.9.0.5")
				a.Device.Value.TLSPin = make([]byte, 32)
				if kind != "fixed" {
					a.Device.Value.Address = addr
				}
			}
			if Check(a, p) == nil {
				t.Fatalf("%s device at %s was admitted", kind, addr)
			}
		}
	}
}

func TestHonestTargetsAreAdmitted(t *testing.T) {
	for _, s := range []string{"10.1.2.3", "172.16.0.9", "192.168.7.1", "203.0.113.9", "fd00::50", "2001:db8::1", "2002:c0a8:0801::1"} {
		a, p := askFor()
		p.Addr = netip.MustParseAddr(s)
		if err := Check(a, p); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzGuardAddress(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add(netip.IPv6Loopback().AsSlice())
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		a, p := askFor()
		p.Addr = addr
		if Check(a, p) == nil && (special(addr) || special(addr.Unmap()) || addr.Is4In6()) {
			t.Fatalf("%s admitted", addr)
		}
	})
}
