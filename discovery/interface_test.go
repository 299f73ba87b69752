package discovery

import (
	"net"
	"net/netip"
	"testing"
)

func TestOnLinkDecision(t *testing.T) {
	l := office()
	l.ifs = append(l.ifs,
		Interface{Name: "tun0", Index: 5, Layer3: true, Prefixes: []netip.Prefix{pfx("10.8.0.2/24")}},
		Interface{Name: "eth1", Index: 6, MAC: mac(2), Prefixes: []netip.Prefix{pfx("10.1.2.200/30"), pfx("169.254.3.4/16")}})
	for addr, want := range map[string]bool{
		"10.1.2.1": true, "10.1.2.254": true, "fd12::1234": true, "10.1.2.201": true,
		"10.1.2.30":        false, // ours
		"10.1.2.200":       false, // ours, on another interface
		"10.1.2.0":         false, // the network
		"10.1.2.255":       false, // broadcast
		"10.1.3.1":         false, // beyond the prefix
		"10.8.0.1":         false, // no MACs there
		"127.0.0.1":        false,
		"::1":              false,
		"0.0.0.0":          false,
		"0.1.2.3":          false,
		"::":               false,
		"169.254.9.9":      false,
		"fe80::2":          false,
		"fd12::":           false, // routers' anycast
		"224.0.0.251":      false,
		"ff02::1":          false,
		"255.255.255.255":  false,
		"::ffff:127.0.0.1": false,
		"fd12::1%eth0":     false,
		"8.8.8.8":          false,
	} {
		if got := onLinkOf(l, ip(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	if !onLinkOf(l, ip("::ffff:10.1.2.1")) {
		t.Error("a mapped address is dialled as IPv4 and must be judged as such")
	}
	if onLinkOf(l, netip.Addr{}) {
		t.Error("no address is on-link")
	}
}

func TestEdgeOfAnyPrefix(t *testing.T) {
	i := Interface{Prefixes: []netip.Prefix{pfx("10.0.0.1/24"), pfx("10.0.0.129/25"), pfx("10.0.1.2/31")}}
	for addr, want := range map[string]bool{"10.0.0.127": true, "10.0.0.128": false, "10.0.0.255": false, "10.0.0.130": true, "10.0.1.3": true} {
		if got := i.reaches(ip(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestNeighbourOnlyOnLink(t *testing.T) {
	l := office()
	l.table = []entry{
		{2, ip("10.1.2.9"), mac(9), false},
		{2, ip("10.9.9.9"), mac(8), true},  // not on-link
		{3, ip("10.1.2.10"), mac(7), true}, // on an interface without that prefix
		{2, ip("10.1.2.30"), mac(6), true}, // our own address
	}
	if m, ok := neighbourOf(l, ip("10.1.2.9")); !ok || m != mac(9) {
		t.Errorf("on-link: %v %v", m, ok)
	}
	if m, ok := neighbourOf(l, ip("::ffff:10.1.2.9")); !ok || m != mac(9) {
		t.Errorf("mapped: %v %v", m, ok)
	}
	for _, a := range []string{"10.9.9.9", "10.1.2.10", "10.1.2.30", "10.1.2.77", "127.0.0.1"} {
		if m, ok := neighbourOf(l, ip(a)); ok {
			t.Errorf("%s: %v", a, m)
		}
	}
	l.failing = net.ErrClosed
	if _, ok := neighbourOf(l, ip("10.1.2.9")); ok || onLinkOf(l, ip("10.1.2.9")) {
		t.Error("a fault of the system must close the guard")
	}
}

func TestPrefixOf(t *testing.T) {
	for s, want := range map[string]string{"10.1.2.3/24": "10.1.2.3/24", "fd12::1/64": "fd12::1/64", "127.0.0.1/8": "", "0.0.0.0/0": ""} {
		a, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := prefixOf(&net.IPNet{IP: a, Mask: n.Mask})
		if (want != "") != ok || (ok && p.String() != want) {
			t.Errorf("%s: %v %v", s, p, ok)
		}
	}
	if p, ok := prefixOf(&net.IPNet{IP: net.IPv4(10, 1, 2, 3).To16(), Mask: net.CIDRMask(120, 128)}); !ok || p != pfx("10.1.2.3/24") {
		t.Errorf("mapped mask: %v %v", p, ok)
	}
	if _, ok := prefixOf(&net.IPNet{IP: net.IPv4(10, 1, 2, 3), Mask: net.IPMask{255, 0, 255, 0}}); ok {
		t.Error("a mask with a hole was accepted")
	}
	if _, ok := prefixOf(&net.TCPAddr{}); ok {
		t.Error("a TCP address is no prefix")
	}
}

// The machine that runs the tests may have nothing but loopback; what must hold holds there too.
func TestThisMachine(t *testing.T) {
	ifs, err := Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		for _, p := range i.Prefixes {
			if OnLink(p.Addr()) {
				t.Errorf("%s: our own address %s passes as a neighbour", i.Name, p.Addr())
			}
			if p.Addr().IsLoopback() {
				t.Errorf("%s: loopback %s listed", i.Name, p.Addr())
			}
		}
	}
	for _, a := range []string{"127.0.0.1", "::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "224.0.0.1", "255.255.255.255"} {
		if m, ok := Neighbour(ip(a)); ok || OnLink(ip(a)) {
			t.Errorf("%s passes as a neighbour (%v)", a, m)
		}
	}
	gateways, err := Gateways(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gateways {
		on, ok := byIndex(ifs, g.Index)
		if !ok || on.Name != g.Interface || !g.Addr.IsValid() || !g.Prefix.IsValid() || g.Prefix != g.Prefix.Masked() {
			t.Errorf("gateway %+v", g)
		}
		if !g.MAC.IsZero() && !g.MAC.IsUnicast() {
			t.Errorf("gateway MAC %s", g.MAC)
		}
		if m, ok := Neighbour(g.Addr); ok && !g.MAC.IsZero() && m != g.MAC {
			t.Errorf("the table has %s for %s, the gateway %s", m, g.Addr, g.MAC)
		}
	}
	if n := len(Locate(gateways, [32]byte{1})); n > len(gateways) {
		t.Errorf("%d locations of %d gateways", n, len(gateways))
	}
}
