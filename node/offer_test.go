package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/discovery/nat"
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

// A super-node that lies has nobody written to whom it names, as long as one other witness contradicts it.
func TestOfferOfContradictedWitnesses(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	// Not on loopback, which counts as public there: this is about nodes that know no public address of their own.
	n := bareNodeAt(t, "0.0.0.0:0", dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	victim, here := netip.MustParseAddrPort("192.0.2.66:53"), netip.MustParseAddrPort("203.0.113.1:7700")
	stun := nat.Report{UDP: nat.Yes, V4: nat.Family{Works: true}, Servers: []nat.Seen{{Server: testID(9, 3), Mapped: here}}}
	for _, c := range []struct {
		name   string
		homes  []home
		report nat.Report
		want   bool // the true address is offered
	}{
		{"the liar first", []home{seenBy(1, 9, victim.String()), seenBy(2, 9, here.String())}, nat.Report{}, false},
		{"the liar last", []home{seenBy(1, 9, here.String()), seenBy(2, 9, victim.String())}, nat.Report{}, false},
		{"against STUN", []home{seenBy(1, 9, victim.String())}, stun, false},
		{"against STUN and a home", []home{seenBy(1, 9, victim.String()), seenBy(2, 9, here.String())}, stun, true},
		{"two ports of a host", []home{seenBy(1, 9, "203.0.113.1:1"), seenBy(2, 9, here.String())}, nat.Report{}, true},
	} {
		m.homes.list, n.nat.report = c.homes, c.report
		l, hint := n.offerUDP(t.Context(), m)
		has := func(a netip.AddrPort) bool {
			return slices.ContainsFunc(l, func(o protocol.Candidate) bool { return o.Addr.AddrPort == a })
		}
		if !hint.Wanted || has(victim) || has(here) != c.want {
			t.Errorf("%s: %v, %+v", c.name, l, hint)
		}
	}
}
