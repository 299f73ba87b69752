//go:build linux

package lab

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Two captured frames: a UDP datagram over IPv4 and a TCP segment over IPv6.
const (
	udp4Frame = "020000000001" + "020000000002" + "0800" +
		"450000200001000040110000" + "2d160002" + "2d370002" +
		"1e14" + "1e15" + "000c" + "0000" + "61626364" + "0000"
	tcp6Frame = "020000000001" + "020000000002" + "86dd" +
		"6000000000160640" + "fe800000000000000000000000000001" + "fe800000000000000000000000000002" +
		"1e14" + "238c" + "00000000" + "00000000" + "5018" + "0000" + "0000" + "0000" + "7879"
)

func frame(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	p := Parse(frame(t, udp4Frame))
	if p.Protocol != unix.IPPROTO_UDP || p.From != netip.MustParseAddrPort("45.22.0.2:7700") ||
		p.To != netip.MustParseAddrPort("45.55.0.2:7701") || string(p.Payload) != "abcd" {
		t.Errorf("udp: %d %s %s %q", p.Protocol, p.From, p.To, p.Payload)
	}
	if !p.UDP(7700) || !p.UDP(7701) || p.UDP(1) || p.TCP() {
		t.Error("the datagram is not recognised")
	}
	if a, b := p.From.Addr(), p.To.Addr(); !p.Between(a, b) || !p.Between(b, a) || p.Between(a, a) {
		t.Error("the two ends are not recognised")
	}
	p = Parse(frame(t, tcp6Frame))
	if !p.TCP() || p.From != netip.MustParseAddrPort("[fe80::1]:7700") || string(p.Payload) != "xy" {
		t.Errorf("tcp: %d %s %q", p.Protocol, p.From, p.Payload)
	}
}

// A truncated frame is no packet, and never a panic.
func TestParseTruncated(t *testing.T) {
	udp := frame(t, udp4Frame)
	for n := range len(udp) - 2 { // the last two bytes are padding
		if p := Parse(udp[:n]); p.Protocol != 0 || p.Payload != nil {
			t.Errorf("%d bytes of a datagram parse as %+v", n, p)
		}
	}
	tcp := frame(t, tcp6Frame)
	for n := range len(tcp) {
		if p := Parse(tcp[:n]); p.Protocol != 0 || p.Payload != nil {
			t.Errorf("%d bytes of a segment parse as %+v", n, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if p := Parse(b); len(p.Payload) > len(b) {
			t.Errorf("%d bytes of payload in a frame of %d", len(p.Payload), len(b))
		}
	})
}

// Every kind has its file of rules.
func TestKindsHaveRules(t *testing.T) {
	for _, kind := range []Kind{Open, PortRestricted} {
		if _, err := ruleFiles.ReadFile("nat/" + string(kind) + ".nft"); err != nil {
			t.Error(err)
		}
	}
}

// Interface addresses are local, for one host only, and the same in every run.
func TestMACs(t *testing.T) {
	a, b := macOf("printer", "eth0"), macOf("printer", "eth0")
	if a.String() != b.String() {
		t.Error("the address changes")
	}
	if a[0]&0x03 != 0x02 {
		t.Errorf("%s is not a local unicast address", a)
	}
	if macOf("desk", "eth0").String() == a.String() {
		t.Error("two hosts have one address")
	}
}
