package discovery

import (
	"encoding/binary"
	"testing"
	"time"
)

func kinds(alerts []Alert) []AlertKind {
	var out []AlertKind
	for _, a := range alerts {
		out = append(out, a.Kind)
	}
	return out
}

func TestTrackerTwoAddresses(t *testing.T) {
	var tr tracker
	now := time.Unix(1000, 0)
	two := []entry{{2, ip("10.0.0.9"), mac(5), true}, {2, ip("10.0.0.4"), mac(5), true}, {2, ip("fd12::5"), mac(5), true}}
	got := tr.observe(now, mac(5), two)
	if len(got) != 1 || got[0].Kind != TwoAddresses || got[0].Addrs[0] != ip("10.0.0.4") || got[0].Addrs[1] != ip("10.0.0.9") {
		t.Fatalf("%+v", got)
	}
	if got := tr.observe(now.Add(time.Minute), mac(5), two); got != nil {
		t.Errorf("said again: %+v", got)
	}
	if got := tr.observe(now.Add(alertEvery), mac(5), two); len(got) != 1 {
		t.Errorf("not said again after %s", alertEvery)
	}
	for name, quiet := range map[string][]entry{
		"a stale line of before":  {{2, ip("10.0.0.9"), mac(6), true}, {2, ip("10.0.0.4"), mac(6), false}},
		"IPv4 and IPv6":           {{2, ip("10.0.0.9"), mac(6), true}, {2, ip("fd12::5"), mac(6), true}},
		"a link-local address":    {{2, ip("10.0.0.9"), mac(6), true}, {2, ip("169.254.1.1"), mac(6), true}},
		"one address on two nets": {{2, ip("10.0.0.9"), mac(6), true}, {3, ip("10.5.0.9"), mac(6), true}},
	} {
		if got := tr.observe(now, mac(6), quiet); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTrackerAddressTaken(t *testing.T) {
	var tr tracker
	now := time.Unix(1000, 0)
	tr.found(now, mac(5), target{2, ip("10.0.0.9")})
	got := tr.observe(now, mac(5), []entry{{2, ip("10.0.0.9"), mac(7), true}})
	if len(got) != 1 || got[0].Kind != AddressTaken || got[0].Other != mac(7) || got[0].MAC != mac(5) {
		t.Fatalf("%+v", got)
	}
	if got := tr.contested(now, mac(5), ip("10.0.0.9"), mac(7)); got != nil {
		t.Errorf("said twice: %+v", got)
	}
	if got := tr.contested(now, mac(5), ip("10.0.0.9"), mac(8)); len(got) != 1 {
		t.Errorf("another impostor: %+v", got)
	}
}

func TestTrackerFlapping(t *testing.T) {
	var tr tracker
	now := time.Unix(1000, 0)
	at := []target{{2, ip("10.0.0.1")}, {2, ip("10.0.0.2")}}
	var got []Alert
	for n := range 4 {
		got = append(got, tr.found(now.Add(time.Duration(n)*time.Minute), mac(5), at[n%2])...)
	}
	if k := kinds(got); len(k) != 1 || k[0] != Flapping {
		t.Errorf("three changes in four minutes: %v", k)
	}
	got = nil
	for n := range 8 {
		got = append(got, tr.found(now.Add(time.Duration(n)*time.Hour), mac(6), at[n%2])...)
		got = append(got, tr.found(now.Add(time.Duration(n)*time.Hour), mac(7), target{2, ip("10.0.0.3")})...)
	}
	if got != nil {
		t.Errorf("a new address an hour: %v", got)
	}
}

func TestTrackerIsBounded(t *testing.T) {
	var tr tracker
	now := time.Unix(1000, 0)
	for n := range maxTracked + 100 {
		var m MAC
		binary.BigEndian.PutUint32(m[2:], uint32(n)+1)
		tr.found(now.Add(time.Duration(n)*time.Second), m, target{2, ip("10.0.0.1")})
	}
	if len(tr.devices) != maxTracked {
		t.Errorf("%d devices kept", len(tr.devices))
	}
	if _, ok := tr.where(MAC{0, 0, 0, 0, 0, 1}); ok {
		t.Error("the oldest was kept")
	}
	for n := range 100 {
		tr.contested(now, mac(9), ip("10.0.0.1"), MAC{2, 9, 9, 9, 9, byte(n)})
	}
	if n := len(tr.device(now, mac(9)).said); n > maxAlerts {
		t.Errorf("%d alerts remembered", n)
	}
}
