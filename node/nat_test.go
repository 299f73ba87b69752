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

func seenBy(fill byte, d protocol.Domain, addr string) home {
	return home{peer: protocol.Peer{ID: testID(d, fill)}, rtt: time.Millisecond, seen: protocol.AddrOf(netip.MustParseAddrPort(addr))}
}

// Only an outside address on which servers agree is named to others.
func TestUDPCandidates(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	own := protocol.AddrOf(n.bound())
	host := protocol.Candidate{Kind: protocol.CandidateHost, Protocol: protocol.UDP, Addr: own, Priority: 250} // loopback is public to a node that is there
	seen := func(a string) protocol.Candidate {
		return protocol.Candidate{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: protocol.AddrOf(netip.MustParseAddrPort(a)), Priority: 300}
	}
	stun := func(fill byte, a string) nat.Seen {
		return nat.Seen{Server: testID(9, fill), Mapped: netip.MustParseAddrPort(a)}
	}
	for _, c := range []struct {
		name   string
		homes  []home
		report nat.Report
		want   []protocol.Candidate
	}{
		{"nothing is known", nil, nat.Report{}, []protocol.Candidate{host}},
		{"two homes", []home{seenBy(1, 9, "203.0.113.1:7700"), seenBy(2, 9, "203.0.113.1:7700")}, nat.Report{}, []protocol.Candidate{seen("203.0.113.1:7700"), host}},
		{"two homes that contradict each other", []home{seenBy(1, 9, "203.0.113.1:7700"), seenBy(2, 9, "192.0.2.66:53")}, nat.Report{}, []protocol.Candidate{host}},
		{"and STUN decides", []home{seenBy(1, 9, "203.0.113.1:7700"), seenBy(2, 9, "192.0.2.66:53")},
			nat.Report{Servers: []nat.Seen{stun(1, "203.0.113.1:7700"), stun(3, "203.0.113.1:7701")}}, []protocol.Candidate{seen("203.0.113.1:7700"), host}},
		{"one home, for want of others", []home{seenBy(1, 9, "203.0.113.1:7700")}, nat.Report{}, []protocol.Candidate{seen("203.0.113.1:7700"), host}},
		{"an operator against a super-node", []home{seenBy(1, 9, "192.0.2.66:53"), seenBy(2, protocol.OperatorDomain, "203.0.113.1:7700")}, nat.Report{}, []protocol.Candidate{seen("203.0.113.1:7700"), host}},
		{"a private address is not for everybody", []home{seenBy(1, 9, "10.0.0.1:7700"), seenBy(2, 9, "10.0.0.1:7700")}, nat.Report{}, []protocol.Candidate{host}},
		{"its own address", []home{seenBy(1, 9, own.String()), seenBy(2, 9, own.String())}, nat.Report{}, []protocol.Candidate{host}},
		{"both families", []home{seenBy(1, 9, "203.0.113.1:1"), seenBy(2, 9, "[2001:db8::1]:2"), seenBy(3, 9, "203.0.113.1:1"), seenBy(4, 9, "[2001:db8::1]:2")}, nat.Report{},
			[]protocol.Candidate{seen("203.0.113.1:1"), seen("[2001:db8::1]:2"), host}},
		{"a NAT that counts", []home{seenBy(1, 9, "203.0.113.1:40001"), seenBy(2, 9, "203.0.113.1:40002")},
			nat.Report{V4: nat.Family{Mapping: protocol.MappingSequential, Step: 1, Last: netip.MustParseAddrPort("203.0.113.1:40009")}},
			[]protocol.Candidate{seen("203.0.113.1:40009"), host}},
	} {
		m.homes.list, n.nat.report = c.homes, c.report
		if got := n.udpCandidates(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A NodeInfo names TCP ports first and has room for the UDP ones.
func TestAnnouncedCandidates(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	n.members()[0].homes.list = []home{seenBy(1, 9, "203.0.113.1:7700"), seenBy(2, 9, "203.0.113.1:7700")}
	l := n.announcedCandidates()
	if len(l) != 3 || l[0].Protocol != protocol.TCP || l[1].Protocol != protocol.UDP || l[1].Kind != protocol.CandidateSeen || l[2].Protocol != protocol.UDP {
		t.Errorf("%v", l)
	}
	if l := n.candidates(); len(l) != 1 || l[0].Protocol != protocol.TCP {
		t.Errorf("a request's candidates: %v", l)
	}
}

func TestNATHint(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	if n.natHint() != (protocol.Punch{}) {
		t.Error("nothing is known, and a meeting is wanted")
	}
	m := n.members()[0]
	m.homes.list = []home{seenBy(1, 9, "203.0.113.1:7700")}
	if n.natHint() != (protocol.Punch{Wanted: true}) {
		t.Error("homes answer, and no meeting is wanted")
	}
	n.nat.report = nat.Report{UDP: nat.Yes, V4: nat.Family{Works: true, Mapping: protocol.MappingSequential, Step: 2}, V6: nat.Family{Works: true}}
	if n.natHint() != (protocol.Punch{Wanted: true, Mapping: protocol.MappingSequential, Step: 2}) {
		t.Errorf("%+v", n.natHint())
	}
	n.nat.report = nat.Report{UDP: nat.Yes, V6: nat.Family{Works: true, Mapping: protocol.MappingIndependent}}
	if n.natHint() != (protocol.Punch{Wanted: true, Mapping: protocol.MappingIndependent}) {
		t.Errorf("%+v", n.natHint())
	}
	n.nat.report = nat.Report{UDP: nat.No}
	if n.natHint() != (protocol.Punch{}) {
		t.Error("UDP is blocked, and a meeting is wanted")
	}
}

// What homes say brings about a measurement when it changes, and an announcement.
func TestObserved(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	woken := func() (nat, told bool) {
		select {
		case <-n.nat.wake:
			nat = true
		default:
		}
		select {
		case <-m.changed:
			told = true
		default:
		}
		return nat, told
	}
	for i, c := range []struct {
		addr string
		want bool
	}{{"203.0.113.1:7700", true}, {"203.0.113.1:7700", false}, {"203.0.113.2:7700", true}, {"203.0.113.2:7701", true}} {
		m.homes.list = []home{seenBy(1, 9, c.addr)}
		n.observed()
		if nat, told := woken(); nat != c.want || told != c.want {
			t.Errorf("%d: measured %v, told %v", i, nat, told)
		}
	}
	if d := n.keepaliveInterval(); d != nat.DefaultKeepalive {
		t.Error(d)
	}
}

// The servers asked are super-nodes with addresses of their own, operators last.
func TestNATServers(t *testing.T) {
	homes := []protocol.ID{testID(9, 2)}
	for _, c := range []struct {
		id   protocol.ID
		want int
	}{{testID(9, 2), 0}, {testID(9, 3), 1}, {testID(protocol.OperatorDomain, 2), 2}} {
		if got := natRank(c.id, homes); got != c.want {
			t.Errorf("%s: %d", c.id.Short(), got)
		}
	}
}
