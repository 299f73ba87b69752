package operator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
)

var local = Actor{Name: "test", Local: true}

// reopened is the operator of the directory, after the other has closed it.
func reopened(t *testing.T, o *Operator, c *clock) *Operator {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return openedAt(t, o.dir, c)
}

func openedAt(t *testing.T, dir string, c *clock) *Operator {
	t.Helper()
	o, err := Open(t.Context(), dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// rootAway moves the root key out of the directory, as a careful operator does.
func rootAway(t *testing.T, o *Operator) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "root.key")
	if err := os.Rename(filepath.Join(o.dir, keysDir, rootKeyFile), to); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestRotate(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	node, keys := join(t, o, "acme", "desk")
	gone, _ := join(t, o, "acme", "gone")
	if _, err := o.RevokeNode(t.Context(), admin, gone.ID.String()); err != nil {
		t.Fatal(err)
	}
	old := o.id
	if _, err := o.Rotate(t.Context(), Actor{Name: "API key"}, RotateSpec{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("by an API key: %v", err)
	}
	root := rootAway(t, o)
	o = reopened(t, o, c)
	if _, err := o.Rotate(t.Context(), local, RotateSpec{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("without the root key: %v", err)
	}
	if _, err := o.Rotate(t.Context(), local, RotateSpec{RootFile: filepath.Join(o.dir, keysDir, operatorKeyFile)}); !errors.Is(err, ErrInvalid) {
		t.Errorf("with the operator's key for the root's: %v", err)
	}
	h, err := o.Rotate(t.Context(), local, RotateSpec{RootFile: root})
	if err != nil || h.Epoch != 1 || !h.From.Equal(c.now().Add(RotateAfter)) {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := o.Rotate(t.Context(), local, RotateSpec{RootFile: root}); !errors.Is(err, ErrExists) {
		t.Errorf("a second one at once: %v", err)
	}
	if o = reopened(t, o, c); o.id != old {
		t.Error("the next key signs before its time")
	}
	if len(o.trust.Operators()) != 2 {
		t.Error("the next key has not been made known")
	}
	c.add(RotateAfter)
	o = reopened(t, o, c)
	if o.id != h.ID || o.epoch != 1 {
		t.Fatalf("the operator is %s", o.id.Short())
	}
	former, record, err := o.FormerIdentity(t.Context())
	if err != nil || protocol.NodeID(protocol.OperatorDomain, former.Signing.Public()) != old || record == nil {
		t.Errorf("former identity: %v", err)
	}
	if op, _ := o.trust.Operator(old); op.Retired.IsZero() {
		t.Error("the old key is not retired")
	}
	if _, err := o.trust.CheckNode(node.Record, c.now()); err != nil {
		t.Errorf("a certificate by the old key: %v", err)
	}
	if err := o.resignAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := static(t, o, protocol.TableRevocation, gone.ID); r == nil || r.Signer != o.id || r.Sequence != 2 {
		t.Errorf("the revocation: %+v", r)
	}
	c.add(sameRenewal)
	res, err := o.Renew(t.Context(), enrol.NewRenewRequest(o.root, node.ID, keys.Signing, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := protocol.ParseRecord(certified(t, o, res).Record); err != nil || r.Signer != o.id {
		t.Errorf("renewed by %v, %v", r, err)
	}
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	if m := worldMap(t, o); len(m.Members()) != 1 || m.Members()[0].Peer.ID != o.id {
		t.Error("the map is not the new key's")
	}
	if _, err := o.newLeaf(t.Context()); err != nil {
		t.Error(err)
	}
}

// A kill between the steps of a change of keys leaves it to be finished.
func TestRotateKilled(t *testing.T) {
	o, c := newOperator(t)
	h, err := o.Rotate(t.Context(), local, RotateSpec{After: "0s"})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(o.dir, keysDir)
	if err := os.Rename(filepath.Join(keys, operatorKeyFile), filepath.Join(keys, formerKeyFile)); err != nil {
		t.Fatal(err)
	}
	o = openedAt(t, o.dir, c)
	if o.id != h.ID {
		t.Errorf("the operator is %s", o.id.Short())
	}
}

// The next key's file was lost before its time: the present one goes on.
func TestRotateKeyLost(t *testing.T) {
	o, c := newOperator(t)
	h, err := o.Rotate(t.Context(), local, RotateSpec{After: "1m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(nextKeyPath(o.dir, h.ID)); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	old := o.id
	if o = reopened(t, o, c); o.id != old {
		t.Errorf("the operator is %s", o.id.Short())
	}
	if _, err := o.Rotate(t.Context(), local, RotateSpec{}); err != nil {
		t.Error(err)
	}
}

func TestRunReopensWithTheNextKey(t *testing.T) {
	o, _ := newOperator(t)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- o.Run(ctx, newMesh()) }()
	if _, err := o.Rotate(t.Context(), local, RotateSpec{After: "0s"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrReopen) {
		t.Error(err)
	}
}

// An operator that a takeover at a higher epoch replaced signs nothing that anybody accepts, and stands by once it hears of it.
func TestTakeoverReplaces(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	node, _ := join(t, o, "acme", "desk")
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(t.Context(), o.dir, file, c.now()); err != nil {
		t.Fatal(err)
	}
	c.add(time.Minute)
	dir := filepath.Join(t.TempDir(), "second")
	if _, err := Restore(t.Context(), file, dir, RestoreOptions{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	second := openedAt(t, dir, c)
	h, err := second.Takeover(t.Context(), local, TakeoverSpec{})
	if err != nil || h.Epoch != 2 {
		t.Fatalf("%+v, %v", h, err)
	}
	second = reopened(t, second, c)
	mesh := newMesh()
	mesh.held = map[protocol.Table][][]byte{protocol.TableOperatorNode: second.trust.Chain()}
	if err := second.hear(t.Context(), mesh); err != nil || !second.leads() {
		t.Fatalf("the new one leads: %v, %v", second.leads(), err)
	}
	if err := second.Announce(t.Context(), 7701); err != nil {
		t.Fatal(err)
	}
	c.add(time.Minute)
	late, _ := join(t, o, "acme", "late") // the old one does not know yet
	reader := second.trust
	if _, err := reader.CheckNode(late.Record, c.now()); !errors.Is(err, protocol.ErrUntrusted) {
		t.Errorf("what the old one signs: %v", err)
	}
	if _, err := reader.CheckNode(node.Record, c.now()); err != nil {
		t.Errorf("what it signed before: %v", err)
	}
	var head []byte
	for raw := range second.StaticRecords(t.Context()) {
		if r, err := protocol.ParseRecord(raw); err == nil && r.Table == protocol.TableMapHead {
			head = raw
			if r.Epoch != 2 || r.Signer != second.id {
				t.Errorf("the map's head: %+v", r)
			}
		}
	}
	if head == nil {
		t.Error("the new one has no map")
	}
	if err := o.checkLead(t.Context(), mesh); err != nil {
		t.Fatal(err)
	}
	if _, err := o.AddDomain(t.Context(), admin, "more"); !errors.Is(err, ErrStandby) {
		t.Errorf("the old one, once it has heard: %v", err)
	}
	o = reopened(t, o, c)
	if _, err := o.CreateToken(t.Context(), admin, TokenSpec{Domain: "acme"}); !errors.Is(err, ErrStandby) {
		t.Errorf("and after a restart: %v", err)
	}
}

// With --stolen nothing that the old key signed counts, however it is dated.
func TestTakeoverFromAThief(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	node, keys := join(t, o, "acme", "desk")
	if _, err := o.Takeover(t.Context(), local, TakeoverSpec{Stolen: true}); err != nil {
		t.Fatal(err)
	}
	o = reopened(t, o, c)
	if _, err := o.trust.CheckNode(node.Record, c.now()); !errors.Is(err, protocol.ErrUntrusted) {
		t.Errorf("signed by the stolen key: %v", err)
	}
	c.add(sameRenewal)
	res, err := o.Renew(t.Context(), enrol.NewRenewRequest(o.root, node.ID, keys.Signing, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	certified(t, o, res)
}

// Two that run with one key, the lost one and its backup: the one that hears of a newer map than it has signed stands by.
func TestTwinStandsBy(t *testing.T) {
	o, c := newOperator(t)
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(t.Context(), o.dir, file, c.now()); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	dir := filepath.Join(t.TempDir(), "twin")
	if _, err := Restore(t.Context(), file, dir, RestoreOptions{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	twin := openedAt(t, dir, c)
	mesh := newMesh()
	if err := twin.hear(t.Context(), mesh); err != nil || !twin.leads() {
		t.Fatalf("%v, %v", twin.leads(), err)
	}
	twin.pushPass(t.Context(), mesh)
	if err := twin.checkLead(t.Context(), mesh); err != nil || !twin.leads() {
		t.Errorf("the backup's: %v, %v", twin.leads(), err)
	}
	if err := o.checkLead(t.Context(), mesh); err != nil || o.leads() {
		t.Errorf("the one that was lost: %v, %v", o.leads(), err)
	}
}

func TestAddStandsBy(t *testing.T) {
	o, c := newOperator(t)
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "second")
	added, err := o.Add(t.Context(), local, AddSpec{File: file, Advertise: "127.0.0.2:7743"})
	if err != nil {
		t.Fatal(err)
	}
	if added.Backup.HasRoot() {
		t.Error("it was given the root key")
	}
	dir := filepath.Join(t.TempDir(), "op")
	out, err := Restore(t.Context(), file, dir, RestoreOptions{Now: c.now})
	if err != nil || !out.Standby || out.Summary.ID != added.ID || out.Summary.HTTPS != "127.0.0.2:7743" {
		t.Fatalf("%+v, %v", out, err)
	}
	s := openedAt(t, dir, c)
	if s.keys.Signing.Public() == o.keys.Signing.Public() {
		t.Error("it was given this operator's key")
	}
	if _, err := s.AddDomain(t.Context(), admin, "acme"); !errors.Is(err, ErrStandby) {
		t.Errorf("a change: %v", err)
	}
	if err := s.Announce(t.Context(), 7700); err != nil {
		t.Error(err)
	}
	if _, err := s.newLeaf(t.Context()); err != nil {
		t.Error(err)
	}
	ops, err := o.Operators(t.Context(), admin)
	if err != nil || len(ops) != 2 || ops[0].State == ops[1].State {
		t.Errorf("%+v, %v", ops, err)
	}
	if err := o.Retire(t.Context(), local, RetireSpec{ID: added.ID}); err != nil {
		t.Fatal(err)
	}
	if ops, err = o.Operators(t.Context(), admin); err != nil || ops[0].State != "retired" && ops[1].State != "retired" {
		t.Errorf("%+v, %v", ops, err)
	}
}

// The records of the whole epoch are renewed while the root key is here, those of the retired, too.
func TestChainIsRenewed(t *testing.T) {
	o, c := newOperator(t)
	if _, err := o.Add(t.Context(), local, AddSpec{File: filepath.Join(t.TempDir(), "second"), Advertise: "127.0.0.2:7743"}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Rotate(t.Context(), local, RotateSpec{After: "0s"}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		o = reopened(t, o, c)
		c.add(operatorRenew + time.Hour)
	}
	o = reopened(t, o, c)
	b, err := o.Bundle(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := b.Trust(o.root, c.now())
	if err != nil || len(trust.Operators()) != 3 {
		t.Errorf("%v, %v", trust, err)
	}
}

func TestForeignRootIsRefused(t *testing.T) {
	o, _ := newOperator(t)
	pair, path := newKeys(t), filepath.Join(t.TempDir(), "root.key")
	if err := pair.Save(path); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		errOf(o.Takeover(t.Context(), local, TakeoverSpec{RootFile: path})),
		errOf(o.Rotate(t.Context(), local, RotateSpec{RootFile: path})),
		errOf(o.Add(t.Context(), local, AddSpec{RootFile: path, File: filepath.Join(t.TempDir(), "x"), Advertise: "127.0.0.1:1"})),
		o.Retire(t.Context(), local, RetireSpec{RootFile: path, ID: o.id}),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }
