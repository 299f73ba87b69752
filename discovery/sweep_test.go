package discovery

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestSweepOrder(t *testing.T) {
	eth := Interface{Name: "eth0", Index: 2, MAC: mac(1), Prefixes: []netip.Prefix{pfx("10.0.0.3/29"), pfx("fd12::3/64")}}
	hints := []target{{2, ip("10.0.0.6")}, {2, ip("fd12::99")}, {2, ip("127.0.0.1")}, {9, ip("10.0.0.4")}, {2, ip("10.0.0.3")}}
	var got []string
	for _, x := range sweepOrder([]Interface{eth}, hints, defaultSpan) {
		got = append(got, x.Addr.String())
	}
	if want := []string{"10.0.0.6", "fd12::99", "10.0.0.4", "10.0.0.2", "10.0.0.5", "10.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestSweepOrderCoversAndIsBounded(t *testing.T) {
	for _, c := range []struct {
		prefix string
		want   int
	}{
		{"10.0.0.1/24", 253}, {"10.0.3.254/22", 1021}, {"10.0.2.77/22", 1021}, {"10.77.3.4/16", 1023}, {"10.0.0.1/8", 1022},
		{"10.0.0.0/31", 1}, {"10.0.0.1/32", 0}, {"255.255.255.250/29", 0}, {"223.255.255.254/24", 253}, {"1.0.0.1/0", 513}, // 0/8 below is nobody's

		{"169.254.3.3/16", 0}, {"fd12::1/64", 0},
	} {
		i := Interface{Name: "x", Index: 1, MAC: mac(1), Prefixes: []netip.Prefix{pfx(c.prefix)}}
		got := sweepOrder([]Interface{i}, nil, defaultSpan)
		if len(got) != c.want {
			t.Errorf("%s: %d addresses, want %d", c.prefix, len(got), c.want)
		}
		seen := make(map[netip.Addr]bool)
		for _, x := range got {
			if seen[x.Addr] || !i.reaches(x.Addr) {
				t.Errorf("%s: %s twice or out of reach", c.prefix, x.Addr)
			}
			seen[x.Addr] = true
		}
	}
	var many []Interface
	for n := range 20 {
		many = append(many, Interface{Index: n + 1, MAC: mac(1), Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 1, 1}), 16)}})
	}
	if n := len(sweepOrder(many, nil, defaultSpan)); n != maxTargets {
		t.Errorf("%d addresses on 20 interfaces", n)
	}
	if n := len(sweepOrder([]Interface{{Index: 1, Layer3: true, Prefixes: []netip.Prefix{pfx("10.8.0.2/24")}}}, nil, defaultSpan)); n != 0 {
		t.Errorf("%d addresses on a layer 3 tunnel", n)
	}
}

func list(n int) []target {
	var out []target
	for k := range n {
		out = append(out, target{1, netip.AddrFrom4([4]byte{10, 0, byte(k >> 8), byte(k)})})
	}
	return out
}

func TestSweepPace(t *testing.T) {
	start := time.Unix(1000, 0)
	s := newSweep(start, list(1000), 200, 1)
	now, asked := start, 0
	for {
		x, wait, more := s.step(now)
		if !more {
			break
		}
		if wait > 0 {
			now = now.Add(wait)
			continue
		}
		if x != list(1000)[asked] {
			t.Fatalf("question %d is %v", asked, x)
		}
		asked++
		if most := int(now.Sub(start)/(5*time.Millisecond)) + 1; asked > most {
			t.Fatalf("%d questions after %s", asked, now.Sub(start))
		}
	}
	if took := now.Sub(start); asked != 1000 || took != 999*5*time.Millisecond {
		t.Errorf("%d questions in %s", asked, took)
	}
}

func TestSweepLateTimer(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSweep(now, list(1000), 200, 1)
	now = now.Add(time.Hour) // a laptop slept
	burst := 0
	for {
		if _, wait, _ := s.step(now); wait > 0 {
			break
		}
		burst++
	}
	if burst > maxCatchUp+1 {
		t.Errorf("%d questions at once", burst)
	}
}

func TestSweepPassesSkipTheAnswered(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSweep(now, list(4), 1000, 2)
	var asked []byte
	for {
		x, wait, more := s.step(now)
		if !more {
			break
		}
		if wait > 0 {
			now = now.Add(wait)
			continue
		}
		asked = append(asked, x.Addr.As4()[3])
		if n := x.Addr.As4()[3]; n == 1 || n == 2 {
			s.answer(x)
		}
	}
	if !slices.Equal(asked, []byte{0, 1, 2, 3, 0, 3}) {
		t.Errorf("asked %v", asked)
	}
	if _, _, more := s.step(now); more {
		t.Error("goes on after its end")
	}
	if _, _, more := newSweep(now, nil, 0, 2).step(now); more {
		t.Error("an empty sweep has work")
	}
}

func TestSweepRefused(t *testing.T) {
	start := time.Unix(1000, 0)
	s := newSweep(start, list(50), 200, 1)
	now, questions := start, 0
	var pauses []time.Duration
	for {
		x, wait, more := s.step(now)
		if !more {
			break
		}
		if wait > 0 {
			now = now.Add(wait)
			continue
		}
		if questions++; questions <= 9 {
			if x != list(50)[0] {
				t.Fatalf("went on to %v although refused", x)
			}
			s.refuse(now)
			pauses = append(pauses, s.due.Sub(now))
			continue
		}
		s.accept()
	}
	if questions != 59 || pauses[0] != 10*time.Millisecond || pauses[8] != maxGap {
		t.Errorf("%d questions, pauses %v", questions, pauses)
	}
	// A table that never has room must not hold a sweep for ever.
	s, now, questions = newSweep(start, list(50), 200, 1), start, 0
	for {
		_, wait, more := s.step(now)
		if !more {
			break
		}
		if wait > 0 {
			now = now.Add(wait)
			continue
		}
		questions++
		s.refuse(now)
	}
	if questions != 100 {
		t.Errorf("%d questions to a full table", questions)
	}
}
