//go:build linux && netlab

package lab_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"culvert/bench/netlab/lab"
)

// After a flush the outside address is nobody's until something is sent again.
func TestFlushNAT(t *testing.T) {
	for _, kind := range []lab.Kind{lab.FullCone, lab.Restricted, lab.PortRestricted, lab.DualStack} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			in, out := udp(t, w.inside, "5000"), udp(t, w.public, "7700")
			send(t, in, at(w.public, 7700), "hello")
			_, mapped := receive(t, out)
			send(t, out, mapped, "answer")
			receive(t, in)
			capture := must[*lab.Capture](t)(w.site.Router.Capture("wan", func(p lab.Packet) bool { return p.UDP(5000) }))
			if err := w.site.FlushNAT(); err != nil {
				t.Fatal(err)
			}
			send(t, out, mapped, "late")
			waitPackets(t, capture, 1)
			send(t, in, at(w.public, 7700), "hello again")
			receive(t, out)
			send(t, out, mapped, "second answer")
			if text, _ := receive(t, in); text != "second answer" {
				t.Errorf("inside heard %q first", text)
			}
			if _, err := capture.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A rebooted router has its new address, in the same network and in another
// one, and what was sent to the old one is lost.
func TestReboot(t *testing.T) {
	for _, kind := range []lab.Kind{lab.PortRestricted, lab.Sequential, lab.FullCone, lab.Open} {
		t.Run(string(kind), func(t *testing.T) {
			w := newStreet(t, kind)
			in, out := udp(t, w.inside, "5000"), udp(t, w.public, "7700")
			for _, wan := range []string{"", "45.55.0.3/24", "45.57.0.9/24"} {
				var prefix netip.Prefix
				if wan != "" {
					prefix = netip.MustParsePrefix(wan)
				}
				if err := w.site.Reboot(prefix); err != nil {
					t.Fatal(err)
				}
				want := w.site.WAN
				if kind == lab.Open {
					want = w.inside.Addr()
				} else if prefix.IsValid() && want != prefix.Addr() {
					t.Errorf("the address is %s, want %s", want, wan)
				}
				send(t, in, at(w.public, 7700), "hello")
				_, from := receive(t, out)
				if from.Addr() != want {
					t.Errorf("the site appears as %s, want %s", from, want)
				}
				send(t, out, from, "answer")
				if text, _ := receive(t, in); text != "answer" {
					t.Errorf("inside heard %q", text)
				}
			}
		})
	}
}

// A link that was down works as before when it is up.
func TestLinkDown(t *testing.T) {
	w := newStreet(t, lab.DualStack)
	accept(t, w.public, ":80")
	v4, v6 := at(w.public, 80).String(), netip.AddrPortFrom(w.public.Addr6(), 80).String()
	for _, link := range []struct {
		name     string
		down, up func() error
	}{
		{"wan", w.site.LinkDown, w.site.LinkUp},
		{"host", w.inside.Unplug, w.inside.Plug},
	} {
		if err := link.down(); err != nil {
			t.Fatal(err)
		}
		if reaches(t, w.inside, v4, false) || reaches(t, w.inside, v6, false) {
			t.Errorf("%s: the internet is reached by a link that is down", link.name)
		}
		if err := link.up(); err != nil {
			t.Fatal(err)
		}
		// The kernel may take a second to notice that a cable has two ends again.
		if !reaches(t, w.inside, v4, true) || !reaches(t, w.inside, v6, true) {
			t.Errorf("%s: the internet is not reached by a link that is up again", link.name)
		}
	}
	if err := w.inside.Plug(); err == nil {
		t.Error("a link that is not down is brought up")
	}
}

// The share of packets that is asked for is lost, in each direction.
func TestLoss(t *testing.T) {
	const sent, percent = 2000, 20
	w := newStreet(t, lab.PortRestricted)
	in, out := udp(t, w.inside, "5000"), udp(t, w.public, "7700")
	send(t, in, at(w.public, 7700), "hello")
	_, mapped := receive(t, out)
	if err := w.site.Loss(percent); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		from     net.PacketConn
		dst      netip.AddrPort
		lastHost *lab.Host
	}{
		{"out", in, at(w.public, 7700), w.public},
		{"in", out, mapped, w.inside},
	} {
		capture := must[*lab.Capture](t)(c.lastHost.Capture("eth0", func(p lab.Packet) bool {
			return bytes.Equal(p.Payload, []byte("one")) || bytes.Equal(p.Payload, []byte("last"))
		}))
		for range sent {
			send(t, c.from, c.dst, "one")
		}
		if err := w.site.Loss(0); err != nil {
			t.Fatal(err)
		}
		send(t, c.from, c.dst, "last")
		waitUntil(t, c.name+": what is sent without loss does not arrive", func() bool {
			return slices.ContainsFunc(capture.Packets(), func(p lab.Packet) bool { return bytes.Equal(p.Payload, []byte("last")) })
		})
		arrived := len(must[[]lab.Packet](t)(capture.Stop())) - 1
		if lost := sent - arrived; lost < sent*percent/100/2 || lost > sent*percent/100*2 {
			t.Errorf("%s: %d of %d lost, want about %d%%", c.name, lost, sent, percent)
		}
		if err := w.site.Loss(percent); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.site.Loss(101); err == nil {
		t.Error("more than everything is lost")
	}
}

// A laptop moves to another site with its hardware address; two sites may look
// the same from inside, down to the router's and the device's hardware address.
func TestMoveBetweenTwins(t *testing.T) {
	w := newStreet(t, lab.PortRestricted)
	lan := netip.MustParsePrefix("192.168.50.1/24")
	twin := must[*lab.Site](t)(w.lab.Site(lab.SiteConfig{
		Name: "twin", Kind: lab.PortRestricted, WAN: netip.MustParsePrefix("45.66.0.2/24"),
		LANs: []netip.Prefix{lan}, MAC: w.site.RouterMAC(0),
	}))
	if !bytes.Equal(twin.RouterMAC(0), w.site.RouterMAC(0)) {
		t.Errorf("the twin's router has %s", twin.RouterMAC(0))
	}
	device := must[*lab.Host](t)(twin.HostWithMAC("twin-second", w.second.MAC(), w.second.Addr()))
	if device.Addr() != w.second.Addr() || !bytes.Equal(device.MAC(), w.second.MAC()) {
		t.Errorf("the twin's device is %s at %s", device.MAC(), device.Addr())
	}
	accept(t, w.public, ":80")
	for _, h := range []*lab.Host{w.inside, device} {
		if !reaches(t, h, at(w.public, 80).String(), true) {
			t.Fatalf("%s does not reach the internet", h.Name())
		}
		res := must[lab.Result](t)(h.Run(t.Context(), nil, "sh", "-c", "ip neigh show 192.168.50.1; ip link show eth0"))
		if !bytes.Contains(res.Stdout, []byte(w.site.RouterMAC(0).String())) || !bytes.Contains(res.Stdout, []byte(h.MAC().String())) {
			t.Errorf("%s sees %s%s", h.Name(), res.Stdout, res.Stderr)
		}
	}
	out := udp(t, w.public, "7700")
	mac := w.inside.MAC()
	for _, c := range []struct {
		to   *lab.Site
		addr string
	}{{twin, "192.168.50.77"}, {w.site, "192.168.50.10"}} {
		if err := c.to.Move(w.inside, netip.MustParseAddr(c.addr)); err != nil {
			t.Fatal(err)
		}
		in := udp(t, w.inside, "5000")
		send(t, in, at(w.public, 7700), "hello")
		if _, from := receive(t, out); from.Addr() != c.to.WAN {
			t.Errorf("it appears as %s, want %s", from, c.to.WAN)
		}
		if w.inside.Addr().String() != c.addr || !bytes.Equal(w.inside.MAC(), mac) {
			t.Errorf("it is %s at %s", w.inside.MAC(), w.inside.Addr())
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := twin.Move(w.inside, netip.MustParseAddr("192.168.9.9")); err == nil {
		t.Error("a host moves to an address that the site does not have")
	}
}

// Whoever runs on a public host may listen at 443, without any rights.
func TestPublicPorts(t *testing.T) {
	w := newStreet(t, lab.Open)
	for name, h := range map[string]*lab.Host{"public": w.public, "inside": w.inside} {
		res := must[lab.Result](t)(h.Run(t.Context(), nil, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"))
		if open := string(bytes.TrimSpace(res.Stdout)) == "0"; open != (name == "public") {
			t.Errorf("%s: ports start at %s", name, res.Stdout)
		}
	}
}

// Every host knows the public ones by name, and the machine outside does not.
func TestNames(t *testing.T) {
	w := newStreet(t, lab.DualStack)
	res := must[lab.Result](t)(w.inside.Run(t.Context(), nil, "getent", "ahosts", w.other.DNSName()))
	for _, a := range []netip.Addr{w.other.Addr(), w.other.Addr6()} {
		if !bytes.Contains(res.Stdout, []byte(a.String())) {
			t.Errorf("%s is known by %s%s, want %s too", w.other.DNSName(), res.Stdout, res.Stderr, a)
		}
	}
	if own := must[[]byte](t)(os.ReadFile("/etc/hosts")); bytes.Contains(own, []byte(w.other.DNSName())) {
		t.Error("the machine's own file of names is another")
	}
}
