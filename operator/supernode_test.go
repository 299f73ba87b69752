package operator

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

// offer is a SubmitSuperNode as it arrives, and its answer.
func offer(t *testing.T, o *Operator, n *protocol.CertifiedNode, addrs ...string) protocol.SuperNodeSubmitted {
	t.Helper()
	m := protocol.SubmitSuperNode{}
	for _, a := range addrs {
		m.Addresses = append(m.Addresses, protocol.AddrOf(netip.MustParseAddrPort(a)))
	}
	b, err := protocol.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := o.Handlers()[protocol.CmdSubmitSuperNode](o.now(), &protocol.Verified{
		Sender: n.ID, Command: protocol.CmdSubmitSuperNode, Payload: b, Node: n, From: netip.MustParseAddrPort("127.0.0.9:5000"),
	})
	if len(out) != 1 || !out[0].Reply {
		t.Fatalf("answer %v", out)
	}
	var a protocol.SuperNodeSubmitted
	if out[0].Command == protocol.CmdBusy {
		return protocol.SuperNodeSubmitted{Status: 255, Reason: "busy"}
	}
	if err := protocol.Unmarshal(out[0].Payload, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func runningOperator(t *testing.T) (*Operator, *clock, *fakeMesh) {
	t.Helper()
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	mesh := newMesh()
	o.attach(mesh)
	t.Cleanup(func() { o.attach(nil) })
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	return o, c, mesh
}

func members(t *testing.T, o *Operator) map[protocol.ID]bool {
	t.Helper()
	ids := make(map[protocol.ID]bool)
	for _, m := range worldMap(t, o).Members() {
		ids[m.Peer.ID] = true
	}
	return ids
}

// A super-node that serves no more says so itself, and is taken in again when it offers itself again.
func TestWithdrawal(t *testing.T) {
	o, c, mesh := runningOperator(t)
	n, _ := join(t, o, "acme", "s1")
	mesh.setAlive(netip.MustParseAddrPort("127.0.0.9:7700"), true)
	if a := offer(t, o, n); a.Status != protocol.StatusOK || members(t, o)[n.ID] {
		t.Errorf("withdrawn without having been there: %+v", a)
	}
	for range 2 {
		if a := offer(t, o, n, "0.0.0.0:7700"); a.Status != protocol.StatusOK || !members(t, o)[n.ID] {
			t.Fatalf("offered: %+v", a)
		}
		if a := offer(t, o, n); a.Status != protocol.StatusOK || members(t, o)[n.ID] {
			t.Fatalf("withdrawn: %+v", a)
		}
		c.add(time.Minute)
	}
}

func TestSubmitIsProbedAndPlaced(t *testing.T) {
	o, c, mesh := runningOperator(t)
	n, _ := join(t, o, "acme", "s1")
	if a := offer(t, o, n, "127.0.0.2:7700"); a.Status != protocol.StatusUnreachable || a.Reason == "" {
		t.Errorf("unreachable: %+v", a)
	}
	if a := offer(t, o, n, "127.0.0.2:7700"); a.Reason != "busy" {
		t.Errorf("again at once: %+v", a)
	}
	c.add(resubmit + time.Second)
	mesh.setAlive(netip.MustParseAddrPort("127.0.0.9:7700"), true)
	epoch := worldMap(t, o).Epoch()
	if a := offer(t, o, n, "127.0.0.2:7700", "0.0.0.0:7700"); a.Status != protocol.StatusOK {
		t.Fatalf("reachable at the observed address: %+v", a)
	}
	m := worldMap(t, o)
	s, ok := m.Member(n.ID)
	if !ok || s.Peer.Addr.String() != "127.0.0.9:7700" || len(s.Addresses) != 1 || m.Epoch() != epoch+1 || !members(t, o)[o.id] {
		t.Errorf("map %+v", m.Members())
	}
	if a := offer(t, o, n, "0.0.0.0:7700"); a.Status != protocol.StatusOK || worldMap(t, o).Epoch() != epoch+1 {
		t.Errorf("an unchanged submission: %+v", a)
	}
	for i, domain := range []string{"acme", "acme", "acme", "brown", "crane"} {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 7700)
		mesh.setAlive(addr, true)
		if domain != "acme" {
			if _, err := o.AddDomain(t.Context(), admin, domain); err != nil {
				t.Fatal(err)
			}
		} else if !members(t, o)[o.id] {
			t.Error("the operator left one customer's super-nodes alone")
		}
		other, _ := join(t, o, domain, "s")
		if a := offer(t, o, other, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
	}
	if !members(t, o)[o.id] {
		t.Error("the operator has left before others have what it serves")
	}
	handAllOver(t, o, c, mesh)
	if members(t, o)[o.id] {
		t.Error("the operator is still on the map beside the super-nodes of three customers")
	}
}

func TestSubmitRefuses(t *testing.T) {
	o, _, mesh := runningOperator(t)
	addr := "127.0.0.2:7700"
	mesh.setAlive(netip.MustParseAddrPort(addr), true)
	revoked, _ := join(t, o, "acme", "r")
	if _, err := o.RevokeNode(t.Context(), admin, revoked.ID.String()); err != nil {
		t.Fatal(err)
	}
	if a := offer(t, o, revoked, addr); a.Status != protocol.StatusRevoked {
		t.Errorf("revoked: %+v", a)
	}
	stranger := &protocol.CertifiedNode{ID: protocol.NewID(7, protocol.Hash{1})}
	if a := offer(t, o, stranger, addr); a.Status != protocol.StatusUnknown {
		t.Errorf("stranger: %+v", a)
	}
	for _, bad := range []string{"169.254.1.1:7700", "224.0.0.1:7700", "[fe80::1]:7700", "127.0.0.2:0", "10.0.0.1:7700"} {
		mesh.setAlive(netip.MustParseAddrPort(bad), true)
		n, _ := join(t, o, "acme", "n")
		if a := offer(t, o, n, bad); a.Status != protocol.StatusUnreachable {
			t.Errorf("%s: %+v", bad, a)
		}
	}
	if out := o.submit(o.now(), &protocol.Verified{Sender: stranger.ID, Node: stranger, Payload: []byte{0xc1}}); out != nil {
		t.Errorf("garbage was answered: %v", out)
	}
}

func TestPublicOperatorProbesNoLoopback(t *testing.T) {
	o, _, mesh := runningOperator(t)
	if err := o.setPeers(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("198.51.100.1:7700")}); err != nil {
		t.Fatal(err)
	}
	n, _ := join(t, o, "acme", "n")
	mesh.setAlive(netip.MustParseAddrPort("127.0.0.1:22"), true)
	if a := offer(t, o, n, "127.0.0.1:22"); a.Status != protocol.StatusUnreachable {
		t.Errorf("%+v", a)
	}
}

func TestPolicy(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	n, _ := join(t, o, "acme", "n")
	again := func() protocol.SuperNodeSubmitted {
		t.Helper()
		c.add(resubmit + time.Second)
		return offer(t, o, n, addr.String())
	}
	set := func(p Policy) {
		t.Helper()
		if err := o.SetPolicy(t.Context(), admin, p); err != nil {
			t.Fatal(err)
		}
	}
	set(PolicyApproved)
	if a := again(); a.Status != protocol.StatusPolicy {
		t.Errorf("not approved: %+v", a)
	}
	if err := o.ApproveSuperNode(t.Context(), admin, n.ID.String()); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusOK || !members(t, o)[n.ID] {
		t.Errorf("approved: %+v", a)
	}
	set(PolicyOwn)
	if members(t, o)[n.ID] {
		t.Error("the policy does not take a super-node off the map")
	}
	if a := again(); a.Status != protocol.StatusPolicy {
		t.Errorf("not own: %+v", a)
	}
	if _, err := o.SetOwnDomain(t.Context(), admin, "acme", true); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusOK {
		t.Errorf("own: %+v", a)
	}
	set(PolicyOpen)
	if err := o.BarSuperNode(t.Context(), admin, n.ID.String()); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusPolicy || members(t, o)[n.ID] {
		t.Errorf("barred: %+v", a)
	}
	if err := o.ApproveSuperNode(t.Context(), admin, n.ID.String()); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusOK {
		t.Errorf("approved after the bar: %+v", a)
	}
	if err := o.SetPolicy(t.Context(), admin, "all"); err == nil {
		t.Error("an unknown policy is accepted")
	}
	if _, err := o.BanDomain(t.Context(), admin, "acme"); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusRevoked || members(t, o)[n.ID] {
		t.Errorf("banned: %+v", a)
	}
	if _, err := o.UnbanDomain(t.Context(), admin, "acme"); err != nil {
		t.Fatal(err)
	}
	if a := again(); a.Status != protocol.StatusOK {
		t.Errorf("unbanned: %+v", a)
	}
	if _, err := o.RevokeNode(t.Context(), admin, n.ID.String()); err != nil {
		t.Fatal(err)
	}
	if members(t, o)[n.ID] {
		t.Error("a revoked super-node is on the map")
	}
	if r := static(t, o, protocol.TableSuperNode, n.ID); r == nil || !r.Tombstone {
		t.Errorf("no tombstone: %+v", r)
	}
}

func TestSilentSuperNodeLeavesTheMapAndComesBack(t *testing.T) {
	o, c, mesh := runningOperator(t)
	var nodes []*protocol.CertifiedNode
	var addrs []netip.AddrPort
	for i := range 2 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 7700)
		mesh.setAlive(addr, true)
		n, _ := join(t, o, "acme", "s")
		if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
		nodes, addrs = append(nodes, n), append(addrs, addr)
	}
	handAllOver(t, o, c, mesh)
	round := func() { c.add(watchInterval); o.watcher.round(t.Context(), mesh, o.now()) }
	mesh.lost[nodes[1].ID] = []protocol.ID{nodes[0].ID}
	mesh.setAlive(addrs[0], false)
	round()
	round()
	if !members(t, o)[nodes[0].ID] {
		t.Error("gone after two misses")
	}
	mesh.setAlive(addrs[0], true)
	round() // one answer wipes the slate
	mesh.setAlive(addrs[0], false)
	for range care.MissLimit {
		round()
	}
	if m := members(t, o); m[nodes[0].ID] || !m[nodes[1].ID] {
		t.Errorf("map %v", m)
	}
	mesh.setAlive(addrs[0], true)
	if a := offer(t, o, nodes[0], addrs[0].String()); a.Status != protocol.StatusOK || !members(t, o)[nodes[0].ID] {
		t.Errorf("back: %+v", a)
	}
	mesh.setAlive(addrs[0], false)
	mesh.setAlive(addrs[1], false)
	for range 2 * care.MissLimit {
		round()
	}
	if m := members(t, o); len(m) != 3 {
		t.Errorf("the operator's own outage emptied the map: %v", m)
	}
}

// TestIsolatedStaysAside: readers pass it by, and it keeps its range, its place in the map and what is stored there.
func TestIsolatedStaysAside(t *testing.T) {
	o, c, mesh := runningOperator(t)
	if _, err := o.SetOwnDomain(t.Context(), admin, "acme", true); err != nil {
		t.Fatal(err)
	}
	var ids []protocol.ID
	for i := range 4 {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 7700)
		mesh.setAlive(addr, true)
		n, _ := join(t, o, "acme", "s")
		if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
		ids = append(ids, n.ID)
	}
	handAllOver(t, o, c, mesh)
	k := protocol.NewID(7, protocol.Hash{1})
	serves := func(id protocol.ID) bool {
		return slices.ContainsFunc(worldMap(t, o).Serving(k), func(m partition.Member) bool { return m.Peer.ID == id })
	}
	if !serves(ids[0]) || serves(o.id) {
		t.Fatalf("map %+v", worldMap(t, o).Members())
	}
	if err := o.ReleaseSuperNode(t.Context(), admin, ids[0].String()); err == nil {
		t.Error("what is not isolated was released")
	}
	if err := o.isolate(t.Context(), ids[0], "withheld a record"); err != nil {
		t.Fatal(err)
	}
	m := worldMap(t, o)
	mem, ok := m.Member(ids[0])
	if serves(ids[0]) || !ok || !mem.Isolated || !m.Covers(ids[0], k) || !m.Keeps(ids[0], k) {
		t.Errorf("isolated: %+v", mem)
	}
	l, err := o.SuperNodes(t.Context(), admin)
	if err != nil || !slices.ContainsFunc(l, func(v SuperNodeView) bool {
		return v.ID == ids[0] && v.Isolated != nil && v.Reason == "withheld a record"
	}) {
		t.Errorf("list %+v: %v", l, err)
	}
	if a := offer(t, o, &protocol.CertifiedNode{ID: ids[0], Signing: mem.Peer.Signing, Sealing: mem.Peer.Sealing}, "127.0.1.0:7700"); a.Status != protocol.StatusOK || serves(ids[0]) {
		t.Errorf("submitting again has ended the isolation: %+v", a)
	}
	if err := o.ReleaseSuperNode(t.Context(), admin, ids[0].String()); err != nil {
		t.Fatal(err)
	}
	if mem, _ := worldMap(t, o).Member(ids[0]); mem.Isolated || mem.Range.Valid() {
		t.Errorf("released it must fill first: %+v", mem)
	}
	handAllOver(t, o, c, mesh)
	if !serves(ids[0]) {
		t.Error("released it does not serve again")
	}
}

func TestMapIsRenewedInTime(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	n, _ := join(t, o, "acme", "n")
	if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
		t.Fatal(a)
	}
	epoch := worldMap(t, o).Epoch()
	for range 30 {
		c.add(24 * time.Hour)
		o.maintain(t.Context())
		if left := static(t, o, protocol.TableSuperNode, n.ID).Expires.Sub(o.now()); left <= 24*time.Hour {
			t.Fatalf("only %v left", left)
		}
	}
	if now := worldMap(t, o).Epoch(); now <= epoch || now > epoch+5 {
		t.Errorf("epoch %d after 30 days, from %d", now, epoch)
	}
	dev, err := o.AddDevice(t.Context(), admin, printer("p"))
	if err != nil {
		t.Fatal(err)
	}
	c.add(deviceRenew + time.Hour)
	o.maintain(t.Context())
	if r := static(t, o, protocol.TableEndDevice, dev.ID); r.Sequence != 2 {
		t.Errorf("device record %d is not renewed", r.Sequence)
	}
}
