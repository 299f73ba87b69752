package node

import (
	"net/netip"
	"slices"
	"testing"

	"culvert/discovery"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/portmap"
)

func TestMappableGateways(t *testing.T) {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	is := []discovery.Interface{{Index: 2, Prefixes: []netip.Prefix{p("192.168.1.30/24"), p("fd00::30/64"), p("2a0e:4d77::30/64"), p("fe80::30/64")}}}
	gs := []discovery.Gateway{
		{Interface: "eth0", Index: 2, Addr: a("192.168.1.1"), Local: a("192.168.1.30"), Default: true},
		{Interface: "eth0", Index: 2, Addr: a("fe80::1"), Local: a("fd00::30"), Default: true},
		{Interface: "eth1", Index: 3, Addr: a("192.168.2.1"), Local: a("192.168.2.30")},
		{Interface: "wg0", Index: 4, Addr: a("10.0.0.1"), Local: a("10.0.0.2"), Default: true, Layer3: true},
		{Interface: "eth2", Index: 5, Addr: a("198.51.100.1"), Local: a("198.51.100.30"), Default: true},
		{Interface: "eth3", Index: 6, Addr: a("fe80::1"), Local: a("fd01::30"), Default: true},
	}
	want := []portmap.Gateway{
		{Addr: a("192.168.1.1"), Local: a("192.168.1.30"), Interface: "eth0"},
		{Addr: a("fe80::1"), Local: a("2a0e:4d77::30"), Interface: "eth0"},
	}
	if got := mappable(gs, is, false); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := mappable(gs, is, true); !slices.Equal(got, want[:1]) {
		t.Errorf("bound to IPv4: %v", got)
	}
}

func TestMappedCandidatesStandBetweenPublicAndPrivate(t *testing.T) {
	p := netip.MustParsePrefix
	var own []netip.Prefix
	for _, s := range []string{"192.168.1.30/24", "192.168.2.30/24", "10.0.0.1/8", "10.0.0.2/8", "10.0.0.3/8", "10.0.0.4/8", "2a0e:4d77::30/64"} {
		own = append(own, p(s))
	}
	at := netip.MustParseAddrPort("203.0.113.7:7701")
	got := addMapped(tunnel.Candidates(own, 7700), []portmap.Mapping{
		{Protocol: protocol.TCP, External: at}, {Protocol: protocol.UDP, External: at},
	})
	if len(got) != protocol.MaxCandidates {
		t.Fatalf("%d candidates", len(got))
	}
	if got[0].Addr.Addr() != own[6].Addr() || got[1].Kind != protocol.CandidateMapped || got[1].Protocol != protocol.TCP ||
		got[2].Kind != protocol.CandidateMapped || got[2].Protocol != protocol.UDP || got[2].Addr != protocol.AddrOf(at) || got[3].Kind != protocol.CandidateHost {
		t.Errorf("%+v", got)
	}
}
