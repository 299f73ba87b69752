package node

import (
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/protocol"
)

func TestFamilies(t *testing.T) {
	lan4, wide6, local6 := netip.MustParsePrefix("192.168.1.5/24"), netip.MustParsePrefix("2001:db8::5/64"), netip.MustParsePrefix("fd00::5/64")
	link6, all6, all4 := netip.MustParsePrefix("fe80::5/64"), netip.IPv6Unspecified(), netip.IPv4Unspecified()
	for _, c := range []struct {
		own   []netip.Prefix
		bound netip.Addr
		want  families
	}{
		{nil, all6, 0},
		{[]netip.Prefix{lan4, local6, link6}, all6, family4},
		{[]netip.Prefix{wide6}, all6, family6},
		{[]netip.Prefix{lan4, wide6}, all6, family4 | family6},
		{[]netip.Prefix{lan4, wide6}, all4, family4},
		{[]netip.Prefix{lan4, wide6}, lan4.Addr(), 0},
	} {
		if got := familiesOf(c.own, c.bound); got != c.want {
			t.Errorf("%v at %v: %d, want %d", c.own, c.bound, got, c.want)
		}
	}
}

// A peer that names an IPv6 address first is asked at its IPv4 one by a machine that has no IPv6, and the reverse.
func TestReachByFamily(t *testing.T) {
	n := bareNode(t, t.TempDir(), time.Now)
	op, v4, v6 := testID(protocol.OperatorDomain, 1), netip.MustParseAddrPort("192.0.2.1:7700"), netip.MustParseAddrPort("[2001:db8::1]:7700")
	s := n.meshOf(storetest.Key("root"))
	s.operators = []protocol.Peer{{ID: op, Addr: v6}, {ID: op, Addr: v4}}
	for _, c := range []struct {
		have families
		addr netip.AddrPort
		want netip.AddrPort
	}{
		{0, v6, v6}, {family4 | family6, v6, v6}, {family4, v6, v4}, {family4, v4, v4}, {family6, v4, v6},
	} {
		n.families.Store(uint32(c.have))
		if got := n.reach(protocol.Peer{ID: op, Addr: c.addr}); got.Addr != c.want {
			t.Errorf("with %d: %v for %v", c.have, got.Addr, c.addr)
		}
		if got := n.reach(protocol.Peer{ID: testID(7, 7), Addr: c.addr}); got.Addr != c.addr {
			t.Errorf("a node of which nothing else is known: %v", got.Addr)
		}
	}
}

// After a handover a certificate is renewed with the operator that the chain names, and only then where it was before.
func TestRenewalFollowsAHandover(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	w, k := storetest.NewWorld(t), storetest.Pair(t, "next operator")
	next := w.Sign(w.Root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Owner: protocol.NodeID(protocol.OperatorDomain, k.Signing.Public()), Signer: w.Trust.RootID(),
		Epoch: 2, Sequence: 1, Issued: storetest.Start, Expires: storetest.Start.Add(time.Hour),
	}, protocol.OperatorNodeValue{Signing: k.Signing.Public(), Sealing: k.Sealing.Public(), HTTPS: "192.0.2.2:443"})
	if err := m.mesh.trust.AddOperator(next, w.Root.Signing.Public(), storetest.Start); err != nil {
		t.Fatal(err)
	}
	if l := m.operatorAddresses(m.file.HTTPS); len(l) != 2 || l[0] != "192.0.2.2:443" || l[1] != "192.0.2.1:443" {
		t.Errorf("renewed at %v", l)
	}
}
