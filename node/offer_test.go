package node

import (
	"net/netip"
	"testing"

	"culvert/protocol"
)

func addrPorts(s ...string) (l []netip.AddrPort) {
	for _, a := range s {
		l = append(l, netip.MustParseAddrPort(a))
	}
	return l
}

func TestMappingByWitnesses(t *testing.T) {
	own := addrPorts("192.168.1.20:7700", "203.0.113.9:7700")
	for _, c := range []struct {
		seen []netip.AddrPort
		want protocol.Mapping
	}{
		{nil, protocol.MappingUnknown},
		{addrPorts("198.51.100.1:40000"), protocol.MappingUnknown},
		{addrPorts("203.0.113.9:7700"), protocol.MappingIndependent},
		{addrPorts("198.51.100.1:40000", "198.51.100.1:40000"), protocol.MappingIndependent},
		{addrPorts("198.51.100.1:40000", "198.51.100.1:40001"), protocol.MappingRandom},
		{addrPorts("198.51.100.1:40000", "[2001:db8::1]:7700"), protocol.MappingIndependent},
	} {
		if got := mappingOf(c.seen, own); got != c.want {
			t.Errorf("%v: mapping %d, not %d", c.seen, got, c.want)
		}
	}
}

func TestUDPCandidates(t *testing.T) {
	own := addrPorts("192.168.1.20:7700", "169.254.3.4:7700", "[fe80::1]:7700", "203.0.113.9:7700")
	l := udpCandidates(addrPorts("198.51.100.1:40000", "198.51.100.1:40000"), own)
	want := []string{"198.51.100.1:40000", "203.0.113.9:7700", "192.168.1.20:7700"}
	if len(l) != len(want) {
		t.Fatalf("%d candidates: %v", len(l), l)
	}
	for i, c := range l {
		if c.Addr.String() != want[i] || c.Protocol != protocol.UDP {
			t.Errorf("candidate %d is %v, not %s", i, c, want[i])
		}
	}
	if l[0].Kind != protocol.CandidateSeen || l[1].Kind != protocol.CandidateHost {
		t.Errorf("kinds: %v", l)
	}
}
