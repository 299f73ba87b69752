package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestArrange(t *testing.T) {
	ifs := []Interface{
		{Name: "eth0", Index: 2, MAC: mac(1), Prefixes: []netip.Prefix{pfx("10.1.2.30/24"), pfx("2001:db8::30/64"), pfx("fd12::30/64"), pfx("fe80::30/64")}},
		{Name: "wlan0", Index: 3, MAC: mac(2), Prefixes: []netip.Prefix{pfx("10.9.0.7/22"), pfx("2001:db8:1::7/64"), pfx("fe80::7/64")}},
		{Name: "tun0", Index: 4, Layer3: true, Prefixes: []netip.Prefix{pfx("10.8.0.2/24")}},
		{Name: "ens5", Index: 5, MAC: mac(3), Prefixes: []netip.Prefix{pfx("203.0.113.9/32")}},
		{Name: "docker0", Index: 6, MAC: mac(4), Prefixes: []netip.Prefix{pfx("172.17.0.1/16")}},
	}
	routes := []nextHop{
		{Index: 3, Via: ip("10.9.0.1"), Metric: 600},
		{Index: 2, Via: ip("fe80::1"), V6: true, Metric: 100},
		{Index: 2, Via: ip("10.1.2.1"), Metric: 100, Source: ip("10.1.2.30")},
		{Index: 2, Via: ip("10.1.2.1"), Metric: 200}, // the same once more
		{Index: 2, Via: ip("10.1.2.2"), Metric: 100},
		{Index: 4, Via: ip("10.8.0.1"), Metric: 0},
		{Index: 3, Via: ip("fe80::9"), V6: true, Metric: 600},
		{Index: 5, Via: ip("172.31.1.1"), Metric: 900},
		{Index: 77, Via: ip("10.0.0.1")}, // no such interface
		{Index: 3, Via: ip("0.0.0.0")},
	}
	preferred := map[hop]bool{{3, ip("10.9.0.1"), false}: true, {2, ip("fe80::1"), true}: true}
	var got []string
	for _, g := range arrange(ifs, routes, preferred) {
		got = append(got, fmt.Sprintln(g.Interface, g.Addr, g.Prefix, g.Local, g.Default, g.Layer3))
	}
	want := `wlan0 10.9.0.1 10.9.0.0/22 10.9.0.7 true false
wlan0 fe80::9 fe80::/64 fe80::7 false false
eth0 10.1.2.1 10.1.2.0/24 10.1.2.30 false false
eth0 10.1.2.2 10.1.2.0/24 10.1.2.30 false false
eth0 fe80::1 fd12::/64 fd12::30 true false
tun0 10.8.0.1 10.8.0.0/24 10.8.0.2 false true
ens5 172.31.1.1 172.31.1.1/32 203.0.113.9 false false
`
	if s := strings.Join(got, ""); s != want {
		t.Errorf("got\n%swant\n%s", s, want)
	}
}

func TestDefaultLike(t *testing.T) {
	for s, want := range map[string]bool{"0.0.0.0/0": true, "0.0.0.0/1": true, "128.0.0.0/1": true, "10.0.0.0/8": false, "0.0.0.0/2": false,
		"::/0": true, "8000::/1": true, "2000::/3": true, "4000::/3": false, "fc00::/7": false} {
		if defaultLike(pfx(s)) != want {
			t.Errorf("%s", s)
		}
	}
}

func TestPreferences(t *testing.T) {
	l := office()
	routes := []nextHop{{Index: 3, Via: ip("10.9.0.1"), Metric: 600}, {Index: 2, Via: ip("10.1.2.1"), Metric: 100}}
	if got := preferences(l, routes); len(got) != 1 || !got[hop{2, ip("10.1.2.1"), false}] {
		t.Errorf("without the system's word: %v", got)
	}
}

func TestGatewayMAC(t *testing.T) {
	gw := target{2, ip("10.1.2.1")}
	for _, c := range []struct {
		name    string
		raw     bool
		table   []entry
		device  MAC
		want    MAC
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"table knows, no raw socket", false, []entry{{2, gw.Addr, mac(1), false}}, mac(1), mac(1), 0, 0},
		{"datagram resolves", false, nil, mac(1), mac(1), 0, 50 * time.Millisecond},
		{"ARP resolves", true, nil, mac(1), mac(1), 0, 50 * time.Millisecond},
		{"ARP corrects the table", true, []entry{{2, gw.Addr, mac(9), false}}, mac(1), mac(1), 0, 50 * time.Millisecond},
		{"ARP is not answered", true, []entry{{2, gw.Addr, mac(9), false}}, MAC{}, mac(9), 0, 400 * time.Millisecond},
		{"nobody answers", false, nil, MAC{}, MAC{}, time.Second, 2 * time.Second},
		{"another interface's line", false, []entry{{3, gw.Addr, mac(9), true}}, MAC{}, MAC{}, time.Second, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := office()
				l.raw, l.table = c.raw, c.table
				if !c.device.IsZero() {
					l.set(gw, c.device)
				}
				start := time.Now()
				list, err := gatewaysOf(t.Context(), l)
				took := time.Since(start)
				l.wg.Wait()
				if err != nil || len(list) != 1 || list[0].MAC != c.want {
					t.Fatalf("%+v %v", list, err)
				}
				if took < c.atLeast || took > c.atMost {
					t.Errorf("took %s", took)
				}
				if n := len(l.questions()) + len(l.touched); n == 0 || n > 8 {
					t.Errorf("%d packets", n)
				}
			})
		})
	}
}

func TestGatewaysEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		start := time.Now()
		list, err := gatewaysOf(ctx, office())
		if err != nil || len(list) != 1 || !list[0].MAC.IsZero() || time.Since(start) > 30*time.Millisecond {
			t.Errorf("%+v %v after %s", list, err, time.Since(start))
		}
	})
}

func TestGatewaysFault(t *testing.T) {
	l := office()
	l.failing = errors.New("no netlink")
	if _, err := gatewaysOf(t.Context(), l); !errors.Is(err, l.failing) {
		t.Errorf("%v", err)
	}
}
