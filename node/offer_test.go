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
