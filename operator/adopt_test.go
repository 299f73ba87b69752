package operator

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
)

// pushed has a mesh hold what the operator has signed.
func pushed(t *testing.T, o *Operator) *fakeMesh {
	t.Helper()
	m := newMesh()
	if left := o.pushPass(t.Context(), m); left > 0 {
		t.Fatalf("%d records are left", left)
	}
	return m
}

// TestRestoredBackup: an operator that was restored from an old backup signs nothing before it has heard the mesh; it rolls
// back nothing, revocations least of all, and goes on with what came after the backup.
func TestRestoredBackup(t *testing.T) {
	o, c := newOperator(t)
	d := addDomain(t, o, "acme")
	addDomain(t, o, "banned")
	stolen, stolenKeys := join(t, o, "acme", "stolen")
	desk, _ := join(t, o, "acme", "desk")
	dev, err := o.AddDevice(t.Context(), admin, DeviceSpec{Name: "printer", Domain: "acme", MAC: "00:11:22:33:44:55", Ports: []string{"631"}, Locations: []string{strings.Repeat("ab", 32)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	file := backup(t, o)

	// After the backup, before the loss.
	c.add(time.Hour)
	if _, err := o.UpdateDevice(t.Context(), admin, dev.ID.String(), DevicePatch{Ports: &[]string{"9100"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.AddDevice(t.Context(), admin, DeviceSpec{Name: "camera", Domain: "acme", MAC: "00:11:22:33:44:66", Ports: []string{"443"}, Locations: []string{strings.Repeat("ab", 32)}}); err != nil {
		t.Fatal(err)
	}
	late, lateKeys := join(t, o, "acme", "late", "staff")
	if _, err := o.RevokeNode(t.Context(), admin, stolen.ID.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := o.BanDomain(t.Context(), admin, "banned"); err != nil {
		t.Fatal(err)
	}
	newcomer := addDomain(t, o, "newcomer")
	join(t, o, "newcomer", "nobody")
	mesh := pushed(t, o)
	lost := worldMap(t, o)

	c.add(time.Hour)
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(t.Context(), file, dir, RestoreOptions{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	r := openedAt(t, dir, c)
	request := enrol.NewRenewRequest(r.root, stolen.ID, stolenKeys.Signing, c.now())
	if _, err := r.Renew(t.Context(), request); !errors.Is(err, enrol.ErrStandby) {
		t.Errorf("a revoked node renews before the mesh was heard: %v", err)
	}
	if err := r.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	if left := r.pushPass(t.Context(), newMesh()); left != 0 {
		t.Error("it pushes before it has heard the mesh")
	}
	mesh.silent = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	mesh.unheard = func(times int) {
		if times == 2 { // it has gone on without being heard once
			cancel()
		}
	}
	if err := r.hear(ctx, mesh); !errors.Is(err, context.Canceled) || r.leads() {
		t.Fatalf("nobody answered: leads %v, %v", r.leads(), err)
	}
	mesh.silent = false
	if err := r.hear(t.Context(), mesh); err != nil || !r.leads() {
		t.Fatalf("leads %v, %v", r.leads(), err)
	}

	log, _, err := r.AuditLog(t.Context(), admin, "", 0, 1000)
	if err != nil || !slices.ContainsFunc(log, func(l AuditView) bool { return l.Action == "domain.lost" && l.Subject == newcomer.String() }) {
		t.Errorf("the domain that the backup lacks is not named: %v", err)
	}

	// Revocations hold, and their numbers are not used again.
	if _, err := r.Renew(t.Context(), enrol.NewRenewRequest(r.root, stolen.ID, stolenKeys.Signing, c.now())); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("a revoked node renews: %v", err)
	}
	token := newToken(t, r, TokenSpec{Domain: "acme"})
	if _, err := r.Enroll(t.Context(), enrol.NewEnrollRequest(token, stolenKeys, "again"), "192.0.2.1"); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("a revoked key enrols again: %v", err)
	}
	if _, err := r.CreateToken(t.Context(), admin, TokenSpec{Domain: "banned"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a token for a banned domain: %v", err)
	}
	if _, err := r.RevokeNode(t.Context(), admin, desk.ID.String()); err != nil {
		t.Fatal(err)
	}
	if err := r.resignAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := r.Bundle(t.Context(), 0)
	if err != nil || len(b.Revocations) != 3 || b.Last < 1000 {
		t.Errorf("%d revocations, the last is %d, %v", len(b.Revocations), b.Last, err)
	}

	// Who was enrolled since is known again.
	c.add(sameRenewal)
	res, err := r.Renew(t.Context(), enrol.NewRenewRequest(r.root, late.ID, lateKeys.Signing, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	if n := certified(t, r, res); len(n.Groups) != 1 || n.Groups[0] != "staff" {
		t.Errorf("groups %v", n.Groups)
	}

	// Devices as they were changed.
	devs, _, err := r.Devices(t.Context(), admin, "acme", protocol.ID{}, 10)
	if err != nil || len(devs) != 2 {
		t.Fatalf("%+v, %v", devs, err)
	}
	for _, v := range devs {
		if v.Name == "printer" && v.Ports[0] != "9100" {
			t.Errorf("rolled back to port %v", v.Ports)
		}
	}

	// Whatever is signed now supersedes what the mesh holds.
	if m := worldMap(t, r); m.Epoch() <= lost.Epoch() {
		t.Errorf("map epoch %d after %d", m.Epoch(), lost.Epoch())
	}
	for raw, err := range r.StaticRecords(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		rec, err := protocol.ParseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if old := mesh.record(rec.Table, rec.Owner); old != nil && old.Supersedes(rec) {
			t.Errorf("%s of %s: %d after %d", rec.Table, rec.Owner.Short(), rec.Sequence, old.Sequence)
		}
	}
	// The domain whose node was revoked has a key that no earlier one can be taken for.
	s := res.Secrets
	if len(s.Keys) == 0 || s.Keys[0].Epoch < 1000 || s.Domain != d.String() {
		t.Errorf("domain keys %+v", s.Keys)
	}
}

// Nothing of the mesh is left: the backup is all there is.
func TestRestoredAlone(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(t.Context(), backup(t, o), dir, RestoreOptions{Now: c.now, Alone: true}); err != nil {
		t.Fatal(err)
	}
	r := openedAt(t, dir, c)
	join(t, r, "acme", "desk")
}

// A backup from before a rotation has a key that the root has retired since: only a takeover makes it lead.
func TestRestoredFromBeforeARotation(t *testing.T) {
	o, c := newOperator(t)
	file := backup(t, o)
	if _, err := o.Rotate(t.Context(), local, RotateSpec{After: "0s"}); err != nil {
		t.Fatal(err)
	}
	o = reopened(t, o, c)
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	mesh := pushed(t, o)
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(t.Context(), file, dir, RestoreOptions{Now: c.now}); err != nil {
		t.Fatal(err)
	}
	r := openedAt(t, dir, c)
	if err := r.hear(t.Context(), mesh); err != nil || r.leads() {
		t.Fatalf("leads %v, %v", r.leads(), err)
	}
	if _, err := r.Takeover(t.Context(), local, TakeoverSpec{}); err != nil {
		t.Fatal(err)
	}
	r = reopened(t, r, c)
	if err := r.hear(t.Context(), mesh); err != nil || !r.leads() {
		t.Fatalf("leads %v, %v", r.leads(), err)
	}
	addDomain(t, r, "acme")
}
