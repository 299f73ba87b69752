package discovery

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestLocationIDGolden(t *testing.T) {
	// python3: hmac.new(b"\x01"*32, b"culvert location 1\0"+mac+bytes([24])+b"\0"*10+b"\xff\xff\x0a\x01\x02\0", "sha256")
	secret := [32]byte{}
	for k := range secret {
		secret[k] = 1
	}
	const v4 = "86f93f0b0777d82905833ce5885a97c5788784e4323dddd08a20e4f5de878138"
	const v6 = "1fbe202ac4168e20fe8c327ba9db0e9d71f17db810a285d97117cbab70501235"
	if got := NewLocationID(secret, mac(1), pfx("10.1.2.77/24")).String(); got != v4 {
		t.Errorf("IPv4: %s", got)
	}
	if got := NewLocationID(secret, mac(1), pfx("fd12::5/64")).String(); got != v6 {
		t.Errorf("IPv6: %s", got)
	}
}

func TestLocationIDDependsOnEverything(t *testing.T) {
	seen := make(map[LocationID]string)
	for name, id := range map[string]LocationID{
		"base":   NewLocationID([32]byte{1}, mac(1), pfx("10.0.0.0/24")),
		"secret": NewLocationID([32]byte{2}, mac(1), pfx("10.0.0.0/24")),
		"mac":    NewLocationID([32]byte{1}, mac(2), pfx("10.0.0.0/24")),
		"length": NewLocationID([32]byte{1}, mac(1), pfx("10.0.0.0/23")),
		"prefix": NewLocationID([32]byte{1}, mac(1), pfx("10.0.1.0/24")),
		"family": NewLocationID([32]byte{1}, mac(1), pfx("::ffff:10.0.0.0/120")),
	} {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same ID", name, other)
		}
		seen[id] = name
	}
	if NewLocationID([32]byte{1}, mac(1), pfx("10.0.0.7/24")) != NewLocationID([32]byte{1}, mac(1), pfx("10.0.0.9/24")) {
		t.Error("two machines at one place differ")
	}
}

func TestLocateOnePerInterface(t *testing.T) {
	gateways := []Gateway{
		{Interface: "eth0", Index: 2, Addr: ip("10.1.2.1"), Prefix: pfx("10.1.2.0/24"), MAC: mac(1), Default: true},
		{Interface: "eth0", Index: 2, Addr: ip("fe80::1"), Prefix: pfx("fe80::/64"), MAC: mac(1)},
		{Interface: "wlan0", Index: 3, Addr: ip("10.9.0.1"), Prefix: pfx("10.9.0.0/24")}, // does not answer
		{Interface: "wlan0", Index: 3, Addr: ip("fe80::9"), Prefix: pfx("fe80::/64"), MAC: mac(9)},
		{Interface: "tun0", Index: 4, Addr: ip("10.8.0.1"), Prefix: pfx("10.8.0.0/24"), Layer3: true},
		{Interface: "eth1", Index: 5, Addr: ip("10.7.0.1"), Prefix: pfx("10.7.0.0/24")},
	}
	got := Locate(gateways, [32]byte{7})
	var names []string
	for _, l := range got {
		names = append(names, l.Interface+" "+l.Gateway.String())
	}
	if s := strings.Join(names, ", "); s != "eth0 10.1.2.1, wlan0 fe80::9, tun0 10.8.0.1" {
		t.Errorf("located %s", s)
	}
	if got[0].ID != NewLocationID([32]byte{7}, mac(1), pfx("10.1.2.0/24")) {
		t.Error("wrong ID")
	}
	if n := Locate(nil, [32]byte{7}); n == nil || len(n) != 0 {
		t.Errorf("without gateways: %#v, want an empty list for JSON", n)
	}
}

func TestLocationText(t *testing.T) {
	l := Location{NewLocationID([32]byte{1}, mac(1), pfx("10.0.0.0/24")), "eth0", pfx("10.0.0.0/24"), ip("10.0.0.1")}
	b, err := json.Marshal([]Location{l})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"id":"` + l.ID.String() + `","interface":"eth0","prefix":"10.0.0.0/24","gateway":"10.0.0.1"}]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back []Location
	if err := json.Unmarshal(b, &back); err != nil || len(back) != 1 || back[0] != l {
		t.Errorf("round trip: %v %v", back, err)
	}
	for _, s := range []string{"", l.ID.Short(), l.ID.String() + "00", strings.Repeat("g", 64)} {
		if _, err := ParseLocationID(s); !errors.Is(err, ErrLocationID) {
			t.Errorf("parse %q: %v", s, err)
		}
	}
	if !strings.HasPrefix(l.ID.String(), l.ID.Short()) || len(l.ID.Short()) != 16 {
		t.Errorf("short form %q", l.ID.Short())
	}
}

func TestMAC(t *testing.T) {
	for _, s := range []string{"02:00:5e:10:00:07", "02-00-5E-10-00-07", "0200.5e10.0007"} {
		if m, err := ParseMAC(s); err != nil || m != mac(7) {
			t.Errorf("parse %q: %v %v", s, m, err)
		}
	}
	for _, s := range []string{"", "02:00:5e:10:00", "02:00:5e:10:00:07:08:09", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"} {
		if _, err := ParseMAC(s); !errors.Is(err, ErrMAC) {
			t.Errorf("parse %q: %v", s, err)
		}
	}
	b, err := json.Marshal(mac(7))
	var back MAC
	if err != nil || json.Unmarshal(b, &back) != nil || back != mac(7) {
		t.Errorf("JSON %s %v %v", b, err, back)
	}
	if a, ok := mac(7).eui64(pfx("fd12::/64")); !ok || a != ip("fd12::5eff:fe10:7") {
		t.Errorf("EUI-64 %v %v", a, ok)
	}
	if _, ok := mac(7).eui64(pfx("fd12::/60")); ok {
		t.Error("EUI-64 in a /60")
	}
}
