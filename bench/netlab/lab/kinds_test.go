//go:build linux && netlab

package lab_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
)

// A street is one site of some kind and two public hosts, dual stack.
type street struct {
	lab            *lab.Lab
	public, other  *lab.Host
	site           *lab.Site
	inside, second *lab.Host
}

// newStreet builds a site with IPv6 inside only for the kinds that have it.
func newStreet(t *testing.T, kind lab.Kind) street {
	t.Helper()
	l := newLab(t)
	s := street{lab: l, public: publicHost(t, l, "public", 22), other: publicHost(t, l, "other", 33)}
	c := lab.SiteConfig{Name: "site", Kind: kind, WAN: netip.MustParsePrefix("45.55.0.2/24")}
	addrs := [][]netip.Addr{{netip.MustParseAddr("192.168.50.10")}, {netip.MustParseAddr("192.168.50.11")}}
	c.LANs = []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}
	switch kind {
	case lab.Open:
		c.LANs = []netip.Prefix{netip.MustParsePrefix("45.44.0.1/24")}
		addrs = [][]netip.Addr{{netip.MustParseAddr("45.44.0.10")}, {netip.MustParseAddr("45.44.0.11")}}
	case lab.IPv6Only:
		c.WAN, c.LANs = netip.Prefix{}, nil
		addrs = [][]netip.Addr{nil, nil}
	case lab.ProxyOnly:
		c.Proxy = addrs[1][0]
	}
	switch kind {
	case lab.Open, lab.IPv6Only, lab.DualStack:
		c.WAN6 = netip.MustParsePrefix("2a0e:1:55::2/64")
		c.LANs6 = []netip.Prefix{netip.MustParsePrefix("2a0e:2:55::1/64")}
		addrs[0] = append(addrs[0], netip.MustParseAddr("2a0e:2:55::10"))
		addrs[1] = append(addrs[1], netip.MustParseAddr("2a0e:2:55::11"))
	}
	s.site = must[*lab.Site](t)(l.Site(c))
	s.inside = must[*lab.Host](t)(s.site.Host("inside", addrs[0]...))
	s.second = must[*lab.Host](t)(s.site.Host("second", addrs[1]...))
	return s
}

func publicHost(t *testing.T, l *lab.Lab, name string, n byte) *lab.Host {
	t.Helper()
	v6 := netip.MustParsePrefix("2a0e:1::2/64").Addr().As16()
	v6[5] = n
	return must[*lab.Host](t)(l.Public(name, netip.PrefixFrom(netip.AddrFrom4([4]byte{45, n, 0, 2}), 24),
		netip.PrefixFrom(netip.AddrFrom16(v6), 64)))
}

func at(h *lab.Host, port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), port) }

// Each kind's mapping and filtering are what its name says, seen from two
// public hosts with two ports each.
func TestTranslation(t *testing.T) {
	type filtering struct{ otherPort, otherHost bool }
	for kind, want := range map[lab.Kind]struct {
		same, kept, sequential bool
		passes                 filtering
		hairpin                bool
	}{
		lab.FullCone:       {same: true, kept: true, passes: filtering{true, true}, hairpin: true},
		lab.Restricted:     {same: true, kept: true, passes: filtering{true, false}, hairpin: true},
		lab.PortRestricted: {same: true, kept: true},
		lab.PortHashed:     {same: true},
		lab.Symmetric:      {},
		lab.Sequential:     {sequential: true},
		lab.DualStack:      {same: true, kept: true},
		lab.UPnP1:          {same: true, kept: true},
		lab.UPnP2:          {same: true, kept: true},
		lab.NATPMP:         {same: true, kept: true},
		lab.PCP:            {same: true, kept: true},
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			in := udp(t, w.inside, "5000")
			outside := []net.PacketConn{udp(t, w.public, "7700"), udp(t, w.public, "7701"), udp(t, w.other, "7700"), udp(t, w.other, "7701")}
			ends := []netip.AddrPort{at(w.public, 7700), at(w.public, 7701), at(w.other, 7700), at(w.other, 7701)}

			// Only the first is written to: who else gets in?
			send(t, in, ends[0], "hello")
			_, first := receive(t, outside[0])
			if first.Addr() != w.site.WAN {
				t.Fatalf("the site appears as %s, want %s", first, w.site.WAN)
			}
			send(t, outside[1], first, "other port")
			send(t, outside[2], first, "other host")
			send(t, outside[0], first, "answer")
			heard := receiveAll(t, in, "answer", map[string]bool{"other port": want.passes.otherPort, "other host": want.passes.otherHost})
			if got := (filtering{heard["other port"], heard["other host"]}); got != want.passes {
				t.Errorf("let in %+v, want %+v", got, want.passes)
			}

			ports := []uint16{first.Port()}
			for i := 1; i < len(ends); i++ {
				send(t, in, ends[i], "hello")
				_, from := receive(t, outside[i])
				ports = append(ports, from.Port())
			}
			same, sequential := true, true
			for i := 1; i < len(ports); i++ {
				same = same && ports[i] == ports[0]
				sequential = sequential && ports[i] == ports[i-1]+1
			}
			if same != want.same || sequential != want.sequential || (ports[0] == 5000) != want.kept {
				t.Errorf("ports %v; want the same %t, one after the other %t, kept %t", ports, want.same, want.sequential, want.kept)
			}
			if got := w.hairpin(t, in, outside[0], want.hairpin); got != want.hairpin {
				t.Errorf("hairpin %t, want %t", got, want.hairpin)
			}
		})
	}
}

// receiveAll hears everything until it has heard the last and all that are
// wanted.
func receiveAll(t *testing.T, c net.PacketConn, last string, want map[string]bool) map[string]bool {
	t.Helper()
	heard := map[string]bool{}
	for {
		text, _ := receive(t, c)
		heard[text] = true
		done := heard[last]
		for text, w := range want {
			done = done && (!w || heard[text])
		}
		if done {
			return heard
		}
	}
}

// hairpin tells whether two hosts of the site reach each other by their
// outside addresses, once both have written there. Where it is wanted, what goes
// the short way may come first.
func (w street) hairpin(t *testing.T, in, public net.PacketConn, wanted bool) bool {
	t.Helper()
	second := udp(t, w.second, "6000")
	send(t, second, at(w.public, 7700), "second")
	_, outSecond := receive(t, public)
	send(t, in, at(w.public, 7700), "inside")
	_, outInside := receive(t, public)
	send(t, second, outInside, "to the outside address")
	send(t, in, outSecond, "to the outside address")
	send(t, in, at(w.second, 6000), "on the LAN")
	text, from := receive(t, second)
	if text == "on the LAN" {
		if !wanted {
			return false
		}
		_, from = receive(t, second)
	}
	if from != outInside {
		t.Errorf("by the outside address comes %s, want %s", from, outInside)
	}
	return true
}

// Policies let out what they name, and nothing else.
func TestPolicy(t *testing.T) {
	for kind, open := range map[lab.Kind]map[string]bool{
		lab.UDPBlocked: {":80": true, ":443": true},
		lab.HTTPSOnly:  {":443": true},
		lab.ProxyOnly:  {},
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			in, out := udp(t, w.inside, "7700"), udp(t, w.public, "7700")
			send(t, in, at(w.public, 7700), "by UDP")
			for _, port := range []string{":80", ":443", ":7700"} {
				accept(t, w.public, port)
				if got := reaches(t, w.inside, w.public.Addr().String()+port, open[port]); got != open[port] {
					t.Errorf("TCP%s: reached %t, want %t", port, got, open[port])
				}
			}
			if err := out.SetReadDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := out.ReadFrom(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("UDP came through: %v", err)
			}
		})
	}
}

// accept lets connections be made to a port.
func accept(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	ln := must[net.Listener](t)(h.Listen("tcp", address))
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

// reaches tells whether a connection comes up. One that is wanted is tried again
// and again, since a new network may lose something and a slow machine is late;
// of one that is not a moment shows enough.
func reaches(t *testing.T, h *lab.Host, address string, wanted bool) bool {
	t.Helper()
	for began := time.Now(); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		conn, err := h.Dial(ctx, "tcp", address)
		cancel()
		if err == nil {
			conn.Close()
			return true
		}
		if !wanted || time.Since(began) > patience {
			return false
		}
	}
}

// In the IPv6 networks of every kind but the open one only answers come in.
func TestIPv6(t *testing.T) {
	for kind, unasked := range map[lab.Kind]bool{lab.IPv6Only: false, lab.DualStack: false, lab.Open: true} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			in := must[net.PacketConn](t)(w.inside.ListenPacket("udp6", "[::]:5000"))
			defer in.Close()
			a := must[net.PacketConn](t)(w.public.ListenPacket("udp6", "[::]:7700"))
			defer a.Close()
			b := must[net.PacketConn](t)(w.other.ListenPacket("udp6", "[::]:7700"))
			defer b.Close()
			own := netip.AddrPortFrom(w.inside.Addr6(), 5000)
			// A new IPv6 network loses a datagram now and then, which a test that sends each once would take for filtering.
			for _, h := range []*lab.Host{w.public, w.other} {
				accept(t, h, ":80")
				if !reaches(t, w.inside, netip.AddrPortFrom(h.Addr6(), 80).String(), true) {
					t.Fatal("TCP over IPv6 does not get out")
				}
			}
			send(t, b, own, "unasked")
			send(t, in, netip.AddrPortFrom(w.public.Addr6(), 7700), "hello")
			if _, from := receive(t, a); from != own {
				t.Errorf("inside appears as %s, want %s", from, own)
			}
			send(t, a, own, "answer")
			if heard := receiveAll(t, in, "answer", map[string]bool{"unasked": unasked}); heard["unasked"] != unasked {
				t.Errorf("unasked datagrams come in: %t, want %t", heard["unasked"], unasked)
			}
			accept(t, w.public, ":443")
			if !reaches(t, w.inside, netip.AddrPortFrom(w.public.Addr6(), 443).String(), true) {
				t.Error("TCP over IPv6 does not get out")
			}
			if v4 := reaches(t, w.inside, at(w.public, 443).String(), kind != lab.IPv6Only); v4 != (kind != lab.IPv6Only) {
				t.Errorf("IPv4 gets out: %t", v4)
			}
		})
	}
}

// Behind a carrier and a home router a socket has one outside address for
// everybody, lets in only who was written to, and two homes of one carrier
// reach each other by outside addresses when both write.
func TestCarrier(t *testing.T) {
	l := newLab(t)
	public, other := publicHost(t, l, "public", 22), publicHost(t, l, "other", 33)
	carrier := must[*lab.Site](t)(l.Site(lab.SiteConfig{
		Name: "carrier", Kind: lab.Carrier,
		WAN: netip.MustParsePrefix("45.55.0.2/24"), LANs: []netip.Prefix{netip.MustParsePrefix("100.64.0.1/10")},
	}))
	var homes [2]net.PacketConn
	for i, name := range []string{"left", "right"} {
		wan := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(10 + i)}), 10)
		home := must[*lab.Site](t)(l.Site(lab.SiteConfig{
			Name: name, Kind: lab.PortRestricted, Behind: carrier, WAN: wan, LANs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24")},
		}))
		if home.Public() != carrier.WAN {
			t.Errorf("%s is known as %s, want %s", name, home.Public(), carrier.WAN)
		}
		homes[i] = udp(t, must[*lab.Host](t)(home.Host(name+"-desk", netip.MustParseAddr("192.168.1.10"))), "7700")
	}
	a, b := udp(t, public, "7700"), udp(t, other, "7700")
	var outside [2]netip.AddrPort
	for i, home := range homes {
		send(t, home, at(public, 7700), "hello")
		_, outside[i] = receive(t, a)
		send(t, b, outside[i], "unasked")
		send(t, a, outside[i], "answer")
		if text, _ := receive(t, home); text != "answer" {
			t.Errorf("let in %q", text)
		}
		send(t, home, at(other, 7700), "hello")
		if _, from := receive(t, b); from != outside[i] || from.Addr() != carrier.WAN {
			t.Errorf("outside addresses %s and %s, want the same one, of %s", outside[i], from, carrier.WAN)
		}
	}
	send(t, homes[0], outside[1], "too early")
	send(t, homes[1], outside[0], "punch")
	if text, from := receive(t, homes[0]); text != "punch" || from != outside[1] {
		t.Errorf("left heard %q from %s, want punch from %s", text, from, outside[1])
	}
	send(t, homes[0], outside[1], "and back")
	if text, from := receive(t, homes[1]); text != "and back" || from != outside[0] {
		t.Errorf("right heard %q from %s, want and back from %s", text, from, outside[0])
	}
}

// The proxy is the one way out, for who knows the password, to port 443.
func TestProxy(t *testing.T) {
	w := newStreet(t, lab.ProxyOnly)
	accept(t, w.public, ":443")
	proxy := must[*lab.Proxy](t)(lab.StartProxy(w.second, 3128, "anna", "secret"))
	for _, c := range []struct{ to, credentials, want string }{
		{at(w.public, 443).String(), "YW5uYTpzZWNyZXQ=", "200"},
		{at(w.public, 443).String(), "YW5uYTp3cm9uZw==", "407"},
		{at(w.public, 7700).String(), "YW5uYTpzZWNyZXQ=", "403"},
		{at(w.other, 443).String(), "YW5uYTpzZWNyZXQ=", "502"},
		{w.public.DNSName() + ":443", "YW5uYTpzZWNyZXQ=", "200"},
	} {
		conn := must[net.Conn](t)(w.inside.Dial(t.Context(), "tcp", at(w.second, 3128).String()))
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write([]byte("CONNECT " + c.to + " HTTP/1.1\r\nHost: " + c.to + "\r\nProxy-Authorization: Basic " + c.credentials + "\r\n\r\n"))
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 "+c.want) {
			t.Errorf("CONNECT %s: %q, %v; want %s", c.to, buf[:n], err, c.want)
		}
		conn.Close()
	}
	if proxy.URL() != "http://anna:secret@192.168.50.11:3128" {
		t.Errorf("URL %s", proxy.URL())
	}
	if proxy.Connects() != 2 || proxy.Refused() != 3 {
		t.Errorf("%d connects, %d refused", proxy.Connects(), proxy.Refused())
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}
