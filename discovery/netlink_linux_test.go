package discovery

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

var ne = binary.NativeEndian

func attr(kind uint16, v ...byte) []byte {
	b := ne.AppendUint16(nil, uint16(4+len(v)))
	b = ne.AppendUint16(b, kind)
	b = append(b, v...)
	return append(b, make([]byte, (4-len(v)%4)%4)...)
}

func u32(n uint32) []byte { return ne.AppendUint32(nil, n) }

func msg(kind uint16, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	b := ne.AppendUint32(nil, uint32(16+len(body)))
	b = ne.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...)
	return append(b, body...)
}

func rtmsg(family, bits uint8) []byte {
	return []byte{family, bits, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_DHCP, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
}

func ndmsg(family uint8, index uint32, state uint16, flags uint8) []byte {
	b := append([]byte{family, 0, 0, 0}, u32(index)...)
	return append(ne.AppendUint16(b, state), flags, unix.RTN_UNICAST)
}

func as4(s string) []byte { a := ip(s).As4(); return a[:] }
func as16(s string) []byte {
	a := ip(s).As16()
	return a[:]
}

func hopOf(flags uint8, index uint32, attrs ...[]byte) []byte {
	a := slices.Concat(attrs...)
	b := ne.AppendUint16(nil, uint16(8+len(a)))
	b = append(b, flags, 0)
	return append(append(b, u32(index)...), a...)
}

func TestParseRoute(t *testing.T) {
	off := rtmsg(unix.AF_INET, 0)
	off[8] = unix.RTNH_F_LINKDOWN
	local := rtmsg(unix.AF_INET, 0)
	local[4] = unix.RT_TABLE_LOCAL
	black := rtmsg(unix.AF_INET, 0)
	black[7] = unix.RTN_BLACKHOLE
	gw := attr(unix.RTA_GATEWAY, as4("10.1.2.1")...)
	oif := attr(unix.RTA_OIF, u32(2)...)
	for _, c := range []struct {
		name string
		body []byte
		want []nextHop
	}{
		{"plain", slices.Concat(rtmsg(unix.AF_INET, 0), gw, oif, attr(unix.RTA_PRIORITY, u32(100)...), attr(unix.RTA_PREFSRC, as4("10.1.2.30")...)),
			[]nextHop{{Index: 2, Via: ip("10.1.2.1"), Metric: 100, Source: ip("10.1.2.30")}}},
		{"IPv6", slices.Concat(rtmsg(unix.AF_INET6, 0), attr(unix.RTA_GATEWAY, as16("fe80::1")...), oif),
			[]nextHop{{Index: 2, Via: ip("fe80::1"), V6: true}}},
		{"half", slices.Concat(rtmsg(unix.AF_INET, 1), attr(unix.RTA_DST, as4("128.0.0.0")...), gw, oif),
			[]nextHop{{Index: 2, Via: ip("10.1.2.1")}}},
		{"not default", slices.Concat(rtmsg(unix.AF_INET, 8), attr(unix.RTA_DST, as4("10.0.0.0")...), gw, oif), nil},
		{"without gateway", slices.Concat(rtmsg(unix.AF_INET, 0), oif), nil},
		{"link down", slices.Concat(off, gw, oif), nil},
		{"local table", slices.Concat(local, gw, oif), nil},
		{"blackhole", slices.Concat(black, gw, oif), nil},
		{"IPv4 via IPv6", slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_VIA, append(ne.AppendUint16(nil, unix.AF_INET6), as16("fe80::1")...)...), oif),
			[]nextHop{{Index: 2, Via: ip("fe80::1")}}},
		{"several next hops", slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_MULTIPATH, slices.Concat(
			hopOf(0, 2, gw), hopOf(unix.RTNH_F_DEAD, 3, gw), hopOf(0, 4, attr(unix.RTA_GATEWAY, as4("10.9.0.1")...)))...)),
			[]nextHop{{Index: 2, Via: ip("10.1.2.1")}, {Index: 4, Via: ip("10.9.0.1")}}},
		{"another family", rtmsg(unix.AF_MPLS, 20), nil},
	} {
		got, err := appendRoutes(nil, c.body)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
	for name, body := range map[string][]byte{
		"address of 3 bytes":  slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_GATEWAY, 1, 2, 3)),
		"IPv6 in IPv4":        slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_GATEWAY, as16("fe80::1")...)),
		"length 77":           slices.Concat(rtmsg(unix.AF_INET, 77), gw, oif),
		"attribute too long":  append(rtmsg(unix.AF_INET, 0), 200, 0, 5, 0),
		"attribute of 0":      append(rtmsg(unix.AF_INET, 0), 0, 0, 5, 0),
		"negative interface":  slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_OIF, u32(1<<31)...)),
		"next hop of 0 bytes": slices.Concat(rtmsg(unix.AF_INET, 0), attr(unix.RTA_MULTIPATH, make([]byte, 8)...)),
	} {
		if _, err := appendRoutes(nil, body); !errors.Is(err, errNetlink) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseNeighbour(t *testing.T) {
	m := mac(9)
	dst, ll := attr(unix.NDA_DST, as4("10.1.2.9")...), attr(unix.NDA_LLADDR, m[:]...)
	want := entry{2, ip("10.1.2.9"), m, true}
	stale := want
	stale.Fresh = false
	for _, c := range []struct {
		name string
		body []byte
		want entry
	}{
		{"reachable", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_REACHABLE, 0), dst, ll), want},
		{"permanent", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_PERMANENT, 0), dst, ll), want},
		{"stale", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_STALE, 0), dst, ll), stale},
		{"failed", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_FAILED, 0), dst, ll), entry{}},
		{"incomplete", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_INCOMPLETE, 0), dst), entry{}},
		{"no ARP", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_NOARP, 0), dst, ll), entry{}},
		{"proxy", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_PERMANENT, unix.NTF_PROXY), dst, ll), entry{}},
		{"multicast MAC", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_REACHABLE, 0), dst, attr(unix.NDA_LLADDR, 1, 0, 0x5e, 0, 0, 1)), entry{}},
		{"infiniband", slices.Concat(ndmsg(unix.AF_INET, 2, unix.NUD_REACHABLE, 0), dst, attr(unix.NDA_LLADDR, make([]byte, 20)...)), entry{}},
		{"bridge", slices.Concat(ndmsg(unix.AF_BRIDGE, 2, unix.NUD_REACHABLE, 0), ll), entry{}},
	} {
		got, ok, err := parseNeighbour(c.body)
		if err != nil || ok != (c.want != entry{}) || (ok && got != c.want) {
			t.Errorf("%s: %+v %v %v", c.name, got, ok, err)
		}
	}
}

// samples are whole datagrams as the kernel sends them.
func samples() [][]byte {
	m := mac(9)
	return [][]byte{
		slices.Concat(
			msg(unix.RTM_NEWROUTE, rtmsg(unix.AF_INET, 0), attr(unix.RTA_TABLE, u32(254)...), attr(unix.RTA_GATEWAY, as4("10.1.2.1")...), attr(unix.RTA_OIF, u32(2)...)),
			msg(unix.RTM_NEWROUTE, rtmsg(unix.AF_INET6, 0), attr(unix.RTA_MULTIPATH, hopOf(0, 2, attr(unix.RTA_GATEWAY, as16("fe80::1")...))...)),
			msg(unix.NLMSG_DONE, u32(0))),
		slices.Concat(
			msg(unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET, 2, unix.NUD_REACHABLE, 0), attr(unix.NDA_DST, as4("10.1.2.9")...), attr(unix.NDA_LLADDR, m[:]...)),
			msg(unix.RTM_NEWNEIGH, ndmsg(unix.AF_INET6, 2, unix.NUD_STALE, 0), attr(unix.NDA_DST, as16("fd12::9")...), attr(unix.NDA_LLADDR, m[:]...))),
		msg(unix.NLMSG_ERROR, u32(^uint32(unix.EPERM)+1), make([]byte, 16)),
	}
}

// parseAll does with a datagram what a dump does.
func parseAll(b []byte) (hops []nextHop, lines []entry, done bool, err error) {
	done, err = walk(b, func(m message) error {
		switch m.Kind {
		case unix.RTM_NEWROUTE:
			hops, err = appendRoutes(hops, m.Body)
			return err
		case unix.RTM_NEWNEIGH:
			e, ok, err := parseNeighbour(m.Body)
			if ok {
				lines = append(lines, e)
			}
			return err
		}
		return nil
	})
	return hops, lines, done, err
}

func TestWalk(t *testing.T) {
	s := samples()
	if hops, _, done, err := parseAll(s[0]); err != nil || !done || len(hops) != 2 {
		t.Errorf("%v %v %v", hops, done, err)
	}
	if _, lines, done, err := parseAll(s[1]); err != nil || done || len(lines) != 2 {
		t.Errorf("%v %v %v", lines, done, err)
	}
	if _, _, _, err := parseAll(s[2]); !errors.Is(err, unix.EPERM) {
		t.Errorf("the kernel's refusal: %v", err)
	}
}

// A cut inside a message is an error; only a cut between messages may pass.
func TestEveryTruncation(t *testing.T) {
	for _, s := range samples() {
		whole := map[int]bool{0: true}
		for at := 0; at < len(s); {
			at += int(ne.Uint32(s[at:]))
			whole[at] = true
		}
		for n := range len(s) {
			_, _, _, err := parseAll(s[:n:n])
			if (err == nil) != whole[n] {
				t.Errorf("cut at %d of %d: %v", n, len(s), err)
			}
		}
	}
	// Within a message whose length was made to fit the cut.
	for _, s := range samples()[:2] {
		body := s[16:ne.Uint32(s)]
		for n := range len(body) {
			if ne.Uint16(s[4:]) == unix.RTM_NEWROUTE {
				_, err := appendRoutes(nil, body[:n:n])
				if n < unix.SizeofRtMsg && err == nil {
					t.Errorf("route of %d bytes accepted", n)
				}
			} else if _, ok, err := parseNeighbour(body[:n:n]); ok != (n >= len(body)-2) || (n < unix.SizeofNdMsg && err == nil) { // 2 bytes pad the MAC
				t.Errorf("neighbour of %d bytes: %v %v", n, ok, err)
			}
		}
	}
}

func FuzzNetlink(f *testing.F) {
	for _, s := range samples() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		hops, lines, _, err := parseAll(b)
		if len(hops)+len(lines) > len(b)/8 {
			t.Errorf("%d results of %d bytes", len(hops)+len(lines), len(b))
		}
		for _, h := range hops {
			if h.Index <= 0 || !h.Via.IsValid() {
				t.Errorf("hop %+v (%v)", h, err)
			}
		}
		for _, e := range lines {
			if e.Index < 0 || !e.Addr.IsValid() || e.Addr.Zone() != "" || !e.MAC.IsUnicast() {
				t.Errorf("line %+v (%v)", e, err)
			}
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add(slices.Concat(attr(1, 1, 2, 3), attr(2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		if err := attributes(b, func(_ uint16, v []byte) error { total += 4 + len(v); return nil }); total > len(b) {
			t.Errorf("%d of %d bytes (%v)", total, len(b), err)
		}
		if _, err := nexthops(unix.AF_INET, b); err != nil && !errors.Is(err, errNetlink) {
			t.Error(err)
		}
	})
}

// The kernel's own tables must parse, whatever is in them here.
func TestKernelTables(t *testing.T) {
	if _, err := (kernel{}).routes(); err != nil {
		t.Error(err)
	}
	lines, err := (kernel{}).neighbours()
	if err != nil {
		t.Error(err)
	}
	for _, e := range lines {
		if !e.MAC.IsUnicast() || !e.Addr.IsValid() || e.Index <= 0 {
			t.Errorf("line %+v", e)
		}
	}
	for _, v6 := range []bool{false, true} {
		if index, via, ok := (kernel{}).preferred(v6); ok && (index <= 0 || via == (netip.Addr{})) {
			t.Errorf("preferred %d %s", index, via)
		}
	}
}
