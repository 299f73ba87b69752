package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/node/config"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

// bareNode is a node that is in no domain and talks to nobody.
func bareNode(t *testing.T, dir string, now func() time.Time) *Node {
	t.Helper()
	return bareNodeAt(t, "127.0.0.1:0", dir, now)
}

func bareNodeAt(t *testing.T, listen, dir string, now func() time.Time) *Node {
	t.Helper()
	c := config.Default()
	c.Listen, c.ListenSet, c.PortMap = listen, true, false
	n, err := New(t.Context(), Config{Dir: dir, Settings: c, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// keepMembership writes the membership of a node under dir, as it was at storetest.Start.
func keepMembership(t *testing.T, dir string, revocations ...[]byte) {
	t.Helper()
	w := storetest.NewWorld(t)
	k := w.Node(7, "desk")
	home := filepath.Join(dir, "memberships", k.ID.Domain().String())
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Keys.Save(filepath.Join(home, keyFile)); err != nil {
		t.Fatal(err)
	}
	f := membershipFile{
		Version: membershipVersion, Root: enrol.Bytes32(w.Trust.Root()), HTTPS: "192.0.2.1:443", Name: "desk", DomainName: "acme", Certificate: k.Record,
		Secrets: enrol.Secrets{Domain: k.ID.Domain().String(), Keys: []enrol.DomainKey{{Epoch: 1}}},
		Bundle: enrol.Bundle{
			RootKey: enrol.Bytes32(w.Root.Signing.Public()), Operators: [][]byte{w.OpRecord}, Revocations: revocations, Time: storetest.Start.UnixMilli(),
		},
	}
	if err := f.save(home); err != nil {
		t.Fatal(err)
	}
}

// Neither a clock that is years ahead nor one that is years behind makes a node throw its membership away.
func TestMembershipOutlivesAWrongClock(t *testing.T) {
	for _, years := range []time.Duration{-40, 0, 40} {
		dir := t.TempDir()
		keepMembership(t, dir)
		n := bareNode(t, dir, func() time.Time { return storetest.Start.Add(years * 365 * 24 * time.Hour) })
		if l := n.members(); len(l) != 1 {
			t.Errorf("%d years off: %d memberships", years, len(l))
		}
	}
}

// A revocation by an operator that is no longer in the chain is no damage either.
func TestMembershipWithARevocationOfAnotherOperator(t *testing.T) {
	w, k := storetest.NewWorld(t), storetest.Pair(t, "old operator").Signing
	old := w.Sign(k, protocol.Record{
		Table: protocol.TableRevocation, Owner: testID(7, 9), Signer: protocol.NodeID(protocol.OperatorDomain, k.Public()), Epoch: 1, Sequence: 1,
		Issued: storetest.Start, Expires: storetest.Start.Add(time.Hour),
	}, protocol.RevocationValue{Number: 1, Kind: protocol.RevokedNode})
	dir := t.TempDir()
	gone := w.Node(7, "gone")
	keepMembership(t, dir, old, w.Revocation(gone.ID, 2, protocol.RevokedNode))
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	if l := n.members(); len(l) != 1 || !l[0].mesh.isRevoked(gone.ID) || l[0].mesh.isRevoked(testID(7, 9)) {
		t.Errorf("%d memberships", len(l))
	}
}

// Revocations in the database that do not verify now are passed over, however many they are.
func TestLoadRevocationsThatDoNotVerify(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	w, evil := storetest.NewWorld(t), storetest.Pair(t, "evil").Signing
	var l []*protocol.Record
	for i := range 130 {
		l = append(l, storetest.Parse(t, w.Sign(evil, protocol.Record{
			Table: protocol.TableRevocation, Owner: testID(7, byte(i+1)), Signer: protocol.NodeID(protocol.OperatorDomain, evil.Public()), Epoch: 1,
			Sequence: 1, Issued: storetest.Start, Expires: storetest.Start.Add(time.Hour),
		}, protocol.RevocationValue{Number: uint64(i + 1), Kind: protocol.RevokedNode})))
	}
	good := w.Node(7, "gone").ID
	l = append(l, storetest.Parse(t, w.Revocation(good, 131, protocol.RevokedNode)))
	if _, err := n.store.Put(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	m := n.members()[0]
	if err := m.loadRevocations(); err != nil || !m.mesh.isRevoked(good) || m.mesh.isRevoked(testID(7, 1)) {
		t.Errorf("%v, revoked %v", err, m.mesh.isRevoked(good))
	}
}

// What came late under a low number is still asked for after a higher number was seen.
func TestRevocationMark(t *testing.T) {
	var r revocationMark
	if s := r.since(testNow); s != 0 {
		t.Errorf("at first from %d", s)
	}
	r.last = 6
	if s := r.since(testNow.Add(recheckFor - 1)); s != 0 {
		t.Errorf("soon after from %d", s)
	}
	if s := r.since(testNow.Add(recheckFor)); s != 0 {
		t.Errorf("turned, from %d", s)
	}
	if s := r.since(testNow.Add(2 * recheckFor)); s != 6 {
		t.Errorf("in the end from %d", s)
	}
}

// Once a node has taken back what it announced, nothing of its own comes after.
func TestNothingAfterTheWithdrawal(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	info := &protocol.Record{Table: protocol.TableNodeInfo, Owner: m.id()}
	first, err := m.sequence(t.Context(), info, 1)
	if err != nil || !m.told.active {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is there to be told
	m.withdraw(ctx)
	if _, err := m.sequence(t.Context(), info, 1); !errors.Is(err, errWithdrawn) {
		t.Errorf("announced again: %v", err)
	}
	if last, err := m.sequence(t.Context(), &protocol.Record{Table: protocol.TableNodeInfo, Owner: m.id(), Tombstone: true}, 1); err != nil || last <= first {
		t.Errorf("withdrawn at %d after %d: %v", last, first, err)
	}
}

// A membership that was left writes nothing any more, not even when a map comes that it was about to be told of.
func TestLeavingEndsTheFile(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	if err := n.leave(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if len(m.mesh.onMap) != 0 {
		t.Error("it is still told of maps")
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil { // joined again
		t.Fatal(err)
	}
	if err := m.keep(); err != nil {
		t.Error(err)
	}
	if err := m.replace(&m.file, m.cert); err == nil {
		t.Error("renewed after leaving")
	}
	if _, err := os.Stat(filepath.Join(m.dir, membershipJSON)); err == nil {
		t.Error("the file is back")
	}
}

// A lasting tunnel that cannot listen at one start is not forgotten by the next save.
func TestForwardsThatWaitAreKept(t *testing.T) {
	dir := t.TempDir()
	n := bareNode(t, dir, time.Now)
	n.waiting = []savedForward{{ID: "kept", Domain: "00000007", Device: "printer", Port: 631, Local: netip.MustParseAddrPort("127.0.0.1:6310")}}
	if err := n.saveForwards(); err != nil {
		t.Fatal(err)
	}
	n.waiting = nil
	n.restoreForwards() // in no domain: it cannot
	if err := n.saveForwards(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(n.forwardsFile()); err != nil || !strings.Contains(string(b), "kept") {
		t.Errorf("%s, %v", b, err)
	}
	if err := (backend{n}).CloseTunnel(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(n.forwardsFile()); err != nil || strings.Contains(string(b), "kept") {
		t.Errorf("after closing it: %s, %v", b, err)
	}
}

// A node whose certificate's signer has been retired since keeps its membership, and knows that it is to be renewed.
func TestMembershipOfARetiredOperator(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	w := storetest.NewWorld(t)
	gone := w.Sign(w.Root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Tombstone: true, Owner: w.OpID, Signer: w.Trust.RootID(), Epoch: 1, Sequence: 2,
		Issued: time.UnixMilli(0), Expires: storetest.Start.Add(time.Hour),
	}, protocol.OperatorNodeValue{Signing: w.Operator.Signing.Public(), Sealing: w.Operator.Sealing.Public()})
	home, err := membershipDirs(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := readMembership(home[0])
	if err != nil {
		t.Fatal(err)
	}
	f.Bundle.Operators = [][]byte{gone}
	if err := f.save(home[0]); err != nil {
		t.Fatal(err)
	}
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	if l := n.members(); len(l) != 1 || l[0].trusted() {
		t.Errorf("%d memberships", len(l))
	}
}
