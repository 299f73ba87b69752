package socks

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	id := "0000002a-" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		name           string
		device, domain string
		ok             bool
	}{
		{"printer-3.culvert", "printer-3", "", true},
		{"Printer-3.CULVERT", "printer-3", "", true},
		{"printer-3.culvert.", "printer-3", "", true},
		{"printer-3.acme.culvert", "printer-3", "acme", true},
		{"printer-3@acme", "printer-3", "acme", true},
		{"printer-3@Acme.", "printer-3", "acme", true},
		{id + ".culvert", id, "", true},
		{id + ".acme.culvert", id, "acme", true},
		{"", "", "", false},
		{".", "", "", false},
		{".culvert", "", "", false},
		{"culvert", "", "", false},
		{"printer-3", "", "", false},
		{"printer-3.culvert..", "", "", false},
		{"printer-3..culvert", "", "", false},
		{"..culvert", "", "", false},
		{"a.b.acme.culvert", "", "", false},
		{"printer-3@", "", "", false},
		{"@acme", "", "", false},
		{"printer@acme@globex", "", "", false},
		{"printer@acme.culvert", "", "", false},
		{"example.org", "", "", false},
		{"printer.culvert.example.org", "", "", false},
		{"notculvert", "", "", false},
		{"192.168.1.2", "", "", false},
		{"127.0.0.1", "", "", false},
		{"localhost", "", "", false},
		{"::1", "", "", false},
		{"-x.culvert", "", "", false},
		{"pr inter.culvert", "", "", false},
		{"pr\x00inter.culvert", "", "", false},
		{"drücker.culvert", "", "", false},
		{strings.Repeat("a", 64) + ".culvert", "", "", false},
	} {
		got, ok := parseTarget(c.name, 631)
		if ok != c.ok || ok && (got.Device != c.device || got.Domain != c.domain || got.Port != 631) {
			t.Errorf("%q: %+v, %v", c.name, got, ok)
		}
	}
	if _, ok := parseTarget("printer-3.culvert", 0); ok {
		t.Error("port 0 is taken")
	}
	if s := (Target{"printer", "acme", 631}).String(); s != "printer.acme.culvert:631" {
		t.Error(s)
	}
}
