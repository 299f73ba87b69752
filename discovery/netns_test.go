//go:build netns && linux

package discovery

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

func finder(t *testing.T, said *alerts) *Finder {
	t.Helper()
	f := NewFinder(FinderConfig{Report: said.add})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	})
	return f
}

func TestNamespaceGatewaysAndLocations(t *testing.T) {
	raw := rawSockets()
	a := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	b := newSite(t, "wlan2", []string{"10.72.0.30/22", "fd72::30/64"}, mac(0x72), "10.72.0.1/22", "fd72::1/64", "fe80::72/64")
	newSite(t, "eth3", []string{"10.73.0.30/24"}, mac(0x73), "10.73.0.1/24") // without a default route
	a.through("10.71.0.1", 600)
	b.through("10.72.0.1", 100)
	b.through("fe80::72", 100)
	flush(t)
	got, err := Gateways(t.Context())
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v %v", got, err)
	}
	want := []Gateway{
		{Interface: "wlan2", Addr: ip("10.72.0.1"), Prefix: pfx("10.72.0.0/22"), Local: ip("10.72.0.30"), MAC: mac(0x72), Default: true},
		{Interface: "wlan2", Addr: ip("fe80::72"), Prefix: pfx("fd72::/64"), Local: ip("fd72::30"), MAC: mac(0x72), Default: true},
		{Interface: "eth1", Addr: ip("10.71.0.1"), Prefix: pfx("10.71.0.0/24"), Local: ip("10.71.0.30"), MAC: mac(0x71)},
	}
	for k, g := range got {
		want[k].Index = g.Index
		if g != want[k] {
			t.Errorf("got  %+v\nwant %+v", g, want[k])
		}
	}
	secret := [32]byte{9}
	locations := Locate(got, secret)
	if len(locations) != 2 || locations[0].Interface != "wlan2" || locations[1].Interface != "eth1" || locations[0].ID == locations[1].ID {
		t.Fatalf("%+v", locations)
	}
	if locations[1].ID != NewLocationID(secret, mac(0x71), pfx("10.71.0.0/24")) {
		t.Error("wrong ID")
	}
	if !OnLink(ip("10.73.0.9")) || OnLink(ip("10.74.0.9")) {
		t.Error("on-link is a matter of prefixes, not of gateways")
	}
	if m, ok := Neighbour(ip("10.71.0.1")); !raw && (!ok || m != mac(0x71)) {
		t.Errorf("the kernel's table: %v %v", m, ok)
	}
}

// A router replaced by another at the same address: ARP tells at once, though the table still has the old one.
func TestNamespaceRouterReplaced(t *testing.T) {
	s := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	s.through("10.71.0.1", 100)
	l, err := netlink.LinkByName("eth1")
	must(t, "link", err)
	flush(t)
	must(t, "old line", netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_STALE, IP: ip("10.71.0.1").AsSlice(), HardwareAddr: []byte{2, 6, 6, 6, 6, 6}}))
	got, err := Gateways(t.Context())
	want := mac(0x71)
	if !rawSockets() {
		want = MAC{2, 6, 6, 6, 6, 6} // until the kernel has checked the line, which our datagram made it begin
	}
	if err != nil || len(got) != 1 || got[0].MAC != want {
		t.Errorf("%+v %v", got, err)
	}
}

func TestNamespaceFind(t *testing.T) {
	raw := rawSockets()
	s := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	s.through("10.71.0.1", 100)
	printer := s.device(mac(0x90), "10.71.0.200/24")
	said := new(alerts)
	f := finder(t, said)
	flush(t)
	start := time.Now()
	got, err := f.Find(t.Context(), mac(0x90))
	t.Logf("found in %s", time.Since(start))
	if err != nil || got.Addr != ip("10.71.0.200") || got.Interface != "eth1" {
		t.Fatalf("%+v %v", got, err)
	}
	if m, ok := Neighbour(got.Addr); !ok || m != mac(0x90) {
		t.Errorf("what the guard sees: %v %v", m, ok)
	}
	start = time.Now()
	if got, err := f.Find(t.Context(), mac(0x90)); err != nil || got.Addr != ip("10.71.0.200") {
		t.Errorf("again: %+v %v", got, err)
	}
	t.Logf("again in %s", time.Since(start))
	// It gets another address.
	eth, err := printer.LinkByName("eth0")
	must(t, "device", err)
	must(t, "old address", printer.AddrDel(eth, address4or6(t, "10.71.0.200/24")))
	must(t, "new address", printer.AddrAdd(eth, address4or6(t, "10.71.0.99/24")))
	f.Distrust(got)
	start = time.Now()
	moved, err := f.Find(t.Context(), mac(0x90))
	t.Logf("found again in %s", time.Since(start))
	if err != nil || moved.Addr != ip("10.71.0.99") {
		t.Errorf("moved: %+v %v", moved, err)
	}
	if k := said.kinds(); len(k) != 0 && raw {
		t.Errorf("a device that moved: %v", k)
	}
	start = time.Now()
	if _, err := f.Find(t.Context(), MAC{2, 1, 1, 1, 1, 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	t.Logf("nobody in %s", time.Since(start))
}

// A thousand addresses: more unresolved ones at a time than a socket's buffer or half of the kernel's table has room for.
func TestNamespaceFindFarAway(t *testing.T) {
	s := newSite(t, "eth1", []string{"10.72.2.2/22"}, mac(0x72), "10.72.0.1/22")
	s.through("10.72.0.1", 100)
	s.device(mac(0x91), "10.72.0.4/22")
	f := finder(t, new(alerts))
	flush(t)
	start := time.Now()
	got, err := f.Find(t.Context(), mac(0x91))
	t.Logf("found in %s", time.Since(start))
	if err != nil || got.Addr != ip("10.72.0.4") || time.Since(start) < 4*time.Second { // as sparing with questions as it is to be
		t.Errorf("%+v %v after %s", got, err, time.Since(start))
	}
}

func TestNamespaceFindIPv6(t *testing.T) {
	raw := rawSockets()
	s := newSite(t, "eth1", []string{"10.71.0.30/24", "fd71::30/64"}, mac(0x71), "10.71.0.1/24", "fd71::1/64")
	a, _ := mac(0x92).eui64(pfx("fd71::/64"))
	s.device(mac(0x92), a.String()+"/64")
	f := finder(t, new(alerts))
	flush(t)
	if got, err := f.Find(t.Context(), mac(0x92)); err != nil || got.Addr != a {
		t.Errorf("address made of the MAC: %+v %v", got, err)
	}
	if !raw {
		return // whether everybody may ping is this machine's setting
	}
	s.device(mac(0x93), "fd71::1234:abcd/64")
	flush(t)
	if got, err := f.Find(t.Context(), mac(0x93)); err != nil || got.Addr != ip("fd71::1234:abcd") {
		t.Errorf("address at random: %+v %v", got, err)
	}
}

// Malformed ARP from anybody on the LAN must not deafen us.
func TestNamespaceMalformedARP(t *testing.T) {
	if !rawSockets() {
		return // nothing is heard without them
	}
	s := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	on, ok := owner(mustInterfaces(t), ip("10.71.0.1"))
	if !ok {
		t.Fatal("no interface")
	}
	p, err := kernel{}.prober(t.Context(), on)
	must(t, "prober", err)
	defer func() { must(t, "close", p.Close()) }()
	reply := slices.Concat(on.MAC[:], []byte{2, 6, 6, 6, 6, 6}, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 2}, []byte{2, 6, 6, 6, 6, 6}, as4("10.71.0.9"), on.MAC[:], as4("10.71.0.30"))
	for n := 14; n < len(reply); n++ {
		s.inject(reply[:n])
	}
	for at := 14; at < 22; at++ { // types, lengths and operation
		for _, v := range []byte{0, 3, 16, 255} {
			bad := slices.Clone(reply)
			bad[at] = v
			s.inject(bad)
		}
	}
	group := slices.Clone(reply)
	group[22] = 1
	s.inject(group)
	s.inject(reply)
	var got []sighting
	until(t, "the good one is heard", func() bool {
		got = append(got, p.heard()...)
		return !p.hears() || slices.Contains(got, sighting{ip("10.71.0.9"), MAC{2, 6, 6, 6, 6, 6}})
	})
	if !p.hears() || len(got) == 0 {
		t.Fatalf("deaf: %v", got)
	}
	for _, g := range got {
		if !g.MAC.IsUnicast() || !g.Addr.Is4() {
			t.Errorf("believed %+v", g)
		}
	}
}

func TestNamespaceTwoAddresses(t *testing.T) {
	s := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	s.device(mac(0x94), "10.71.0.40/24", "10.71.0.41/24")
	said := new(alerts)
	f := finder(t, said)
	flush(t)
	on, ok := owner(mustInterfaces(t), ip("10.71.0.40"))
	if !ok {
		t.Fatal("no interface")
	}
	for _, a := range []string{"10.71.0.40", "10.71.0.41"} {
		if m := gatewayMAC(t.Context(), kernel{}, on, ip(a)); m != mac(0x94) {
			t.Fatalf("%s: %s", a, m)
		}
		d := newDatagrams(on)
		must(t, "touch", d.touch(ip(a))) // ARP of ours leaves no line in the kernel's table
		must(t, "close", d.Close())
	}
	until(t, "the kernel knows it", func() bool {
		_, fresh := lookup(kernel{}, on.Index, ip("10.71.0.41"))
		return fresh
	})
	if got, err := f.Find(t.Context(), mac(0x94)); err != nil || got.Addr != ip("10.71.0.40") {
		t.Errorf("%+v %v", got, err)
	}
	if k := said.kinds(); len(k) != 1 || k[0] != TwoAddresses {
		t.Errorf("alerts %v", k)
	}
}

func mustInterfaces(t *testing.T) []Interface {
	t.Helper()
	ifs, err := Interfaces()
	must(t, "interfaces", err)
	return ifs
}

func TestNamespaceWatch(t *testing.T) {
	w, err := Watch(WatchConfig{})
	must(t, "watch", err)
	defer goleak.VerifyNone(t)
	defer func() { must(t, "close", w.Close()) }()
	next := func(what string, fits func(Change) bool) {
		t.Helper()
		limit := time.NewTimer(patience)
		defer limit.Stop()
		start := time.Now()
		for {
			select {
			case c, open := <-w.Changes():
				if !open {
					t.Fatalf("%s: ended: %v", what, w.Wait())
				}
				if fits(c) {
					t.Logf("%s: told after %s", what, time.Since(start))
					return
				}
			case <-limit.C:
				t.Fatalf("%s: not told", what)
			}
		}
	}
	gateways := func(names ...string) func(Change) bool {
		return func(c Change) bool {
			var got []string
			for _, g := range c.Gateways {
				if g.MAC.IsZero() {
					return false
				}
				got = append(got, g.Interface)
			}
			return fmt.Sprint(got) == fmt.Sprint(names)
		}
	}
	next("at first", gateways())
	a := newSite(t, "eth1", []string{"10.71.0.30/24"}, mac(0x71), "10.71.0.1/24")
	a.through("10.71.0.1", 600)
	next("first network", gateways("eth1"))
	b := newSite(t, "eth2", []string{"10.72.0.30/24"}, mac(0x72), "10.72.0.1/24")
	b.through("10.72.0.1", 100)
	next("second network, preferred", gateways("eth2", "eth1"))
	l, err := netlink.LinkByName("eth2")
	must(t, "link", err)
	must(t, "down", netlink.LinkSetDown(l))
	next("cable pulled", gateways("eth1"))
	eth1, err := netlink.LinkByName("eth1")
	must(t, "link", err)
	must(t, "renumber", netlink.AddrReplace(eth1, address4or6(t, "10.71.0.30/25")))
	must(t, "renumber", netlink.AddrDel(eth1, address4or6(t, "10.71.0.30/24")))
	a.again("10.71.0.1", 600)
	next("another prefix", func(c Change) bool { return len(c.Gateways) == 1 && c.Gateways[0].Prefix == pfx("10.71.0.0/25") })
}

// again restores the default route if the kernel dropped it with the address.
func (s *site) again(gw string, metric int) {
	s.t.Helper()
	l, err := netlink.LinkByName(s.name)
	must(s.t, "link", err)
	must(s.t, "default route", netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: ip(gw).AsSlice(), Priority: metric}))
}
