package nat

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"culvert/protocol"
)

func TestSequence(t *testing.T) {
	for _, c := range []struct {
		ports []uint16
		step  uint16
		ok    bool
	}{
		{[]uint16{40000, 40001, 40002}, 1, true},
		{[]uint16{40000, 40002, 40001, 40003}, 1, true}, // one was lost at first
		{[]uint16{40000, 40002, 40004, 40006, 40008}, 2, true},
		{[]uint16{40000, 40003, 40004, 40007}, 1, true},        // others in between
		{[]uint16{50000, 49999, 49998, 49997}, 0xffff, true},   // downwards
		{[]uint16{65534, 65535, 0, 1}, 1, true},                // round the corner
		{[]uint16{41998, 41999, 40000, 40001, 40002}, 1, true}, // begun anew
		{[]uint16{0x9c40, 0x9d40, 0x9e40, 0x9f40}, 256, true},  // in the wrong byte order
		{[]uint16{40000, 40001}, 0, false},
		{[]uint16{40000, 40000, 40000}, 0, false},
		{[]uint16{40000, 50000, 60000}, 0, false},
		{[]uint16{40000, 40001, 45000}, 0, false},
		{nil, 0, false},
	} {
		if step, ok := sequence(c.ports); step != c.step || ok != c.ok {
			t.Errorf("%v: %d %v", c.ports, step, ok)
		}
	}
}

// Random ports are hardly ever taken for a sequence.
func TestNoSequence(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 4; n <= 7; n++ {
		wrong := 0
		for range 100_000 {
			ports := make([]uint16, n)
			for i := range ports {
				ports[i] = uint16(r.UintN(1 << 16))
			}
			if _, ok := sequence(ports); ok {
				wrong++
			}
		}
		if wrong > 100 {
			t.Errorf("%d of 100,000 sets of %d", wrong, n)
		}
	}
}

func TestAgree(t *testing.T) {
	id := func(b byte) (id protocol.ID) { id[0] = b; return id }
	a, b, x := netip.MustParseAddrPort("203.0.113.1:1"), netip.MustParseAddrPort("203.0.113.1:2"), netip.MustParseAddrPort("192.0.2.66:53")
	for name, c := range map[string]struct {
		votes []Vote
		want  netip.AddrPort
		sure  bool
	}{
		"nobody":               {},
		"one alone":            {[]Vote{{id(1), false, a}}, a, false},
		"one, twice":           {[]Vote{{id(1), false, a}, {id(1), false, x}}, x, false},
		"two":                  {[]Vote{{id(1), false, a}, {id(2), false, a}}, a, true},
		"two ports":            {[]Vote{{id(1), false, a}, {id(2), false, b}}, b, true},
		"two of three ports":   {[]Vote{{id(1), false, a}, {id(2), false, a}, {id(3), false, b}}, a, true},
		"two hosts":            {[]Vote{{id(1), false, a}, {id(2), false, x}}, netip.AddrPort{}, false},
		"two against one":      {[]Vote{{id(1), false, x}, {id(2), false, a}, {id(3), false, a}}, a, true},
		"an operator":          {[]Vote{{id(1), true, a}, {id(2), false, x}, {id(3), false, x}}, a, true},
		"an operator alone":    {[]Vote{{id(1), true, a}}, a, true},
		"nothing said":         {[]Vote{{id(1), false, netip.AddrPort{}}, {id(2), false, a}}, a, false},
		"three times another":  {[]Vote{{id(1), false, a}, {id(2), false, x}, {id(3), false, netip.MustParseAddrPort("192.0.2.67:1")}}, netip.AddrPort{}, false},
		"two pairs":            {[]Vote{{id(1), false, a}, {id(2), false, a}, {id(3), false, x}, {id(4), false, x}}, netip.AddrPort{}, false},
		"one repeats his word": {[]Vote{{id(1), false, x}, {id(1), false, x}, {id(2), false, a}}, netip.AddrPort{}, false},
	} {
		if got, sure := Agree(c.votes); got != c.want || sure != (c.sure && got.IsValid()) {
			t.Errorf("%s: %v %v", name, got, sure)
		}
	}
}
