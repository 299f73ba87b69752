package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/operator/registry"
	"culvert/protocol"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *DB {
	t.Helper()
	d, err := Create(t.Context(), filepath.Join(t.TempDir(), "odd name?#%.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func update(t *testing.T, d *DB, fn func(*Tx) error) {
	t.Helper()
	if err := d.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operator.db")
	d, err := Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	update(t, d, func(tx *Tx) error { return tx.SetSetting("a", []byte("b")) })
	for _, f := range []string{path, path + "-wal", path + "-shm"} {
		st, err := os.Stat(f)
		if err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}
	if _, err := Create(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
}

func TestPragmasHoldOnEveryConnection(t *testing.T) {
	d := open(t)
	for pool, want := range map[*sql.DB][]int{d.write: {2, 1}, d.read: {-1, 1}} {
		for i, pragma := range []string{"synchronous", "foreign_keys"} {
			var n int
			if err := pool.QueryRow("PRAGMA " + pragma).Scan(&n); err != nil || want[i] >= 0 && n != want[i] {
				t.Errorf("%s: %d, %v", pragma, n, err)
			}
		}
	}
	if _, err := d.read.Exec("DELETE FROM audit"); err == nil {
		t.Error("the readers' pool writes")
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operator.db")
	d, err := Create(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.write.Exec("PRAGMA user_version = 999"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); !errors.Is(err, ErrNewer) {
		t.Error(err)
	}
}

func TestUpdateRollsBack(t *testing.T) {
	d := open(t)
	boom := errors.New("boom")
	if err := d.Update(t.Context(), func(tx *Tx) error {
		if err := tx.SetSetting("a", []byte("b")); err != nil {
			return err
		}
		return boom
	}); !errors.Is(err, boom) {
		t.Error(err)
	}
	if err := d.View(t.Context(), func(tx *Tx) error { _, err := tx.Setting("a"); return err }); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := d.Update(ctx, func(tx *Tx) error { cancel(); return tx.SetSetting("a", nil) }); err == nil {
		t.Error("a cancelled transaction commits")
	}
}

func TestRowsComeBackAsTheyWent(t *testing.T) {
	d := open(t)
	at := time.UnixMilli(1_800_000_000_123)
	dom := registry.Domain{Number: 1<<32 - 1, Name: "Acme", Secret: [32]byte{1}, Created: at}
	id := protocol.NewID(dom.Number, protocol.Hash{9})
	node := registry.Node{ID: id, Name: "n", Groups: []string{"a"}, Token: protocol.Hash{7}, Enrolled: at, Issued: at, Expires: at}
	dev := registry.Device{ID: id, Value: protocol.EndDeviceValue{Name: "P", MAC: []byte{2, 0, 0, 0, 0, 1}, Ports: []protocol.Port{{Number: 9, Protocol: protocol.UDP}}}, KeyEpoch: 1, Created: at, Updated: at}
	update(t, d, func(tx *Tx) error {
		return errors.Join(tx.AddDomain(dom), tx.AddDomainKey(dom.Number, registry.DomainKey{Epoch: 1, Key: [32]byte{2}, From: at}), tx.PutNode(node), tx.PutDevice(dev))
	})
	update(t, d, func(tx *Tx) error {
		got, err := tx.DomainByName("ACME")
		if err != nil || got != dom {
			t.Errorf("%+v, %v", got, err)
		}
		n, err := tx.Node(id)
		if err != nil || n.ID != id || !n.Expires.Equal(at) || !slices.Equal(n.Groups, node.Groups) || !n.Revoked.IsZero() {
			t.Errorf("%+v, %v", n, err)
		}
		v, err := tx.DeviceByMAC(dom.Number, dev.Value.MAC)
		if err != nil || v.Value.Name != "P" || v.Value.Ports[0].Protocol != protocol.UDP {
			t.Errorf("%+v, %v", v, err)
		}
		twin := dev
		twin.ID = protocol.NewID(dom.Number, protocol.Hash{8})
		if err := tx.PutDevice(twin); err == nil {
			t.Error("two devices of one name and MAC")
		}
		return nil
	})
}

func TestTokenUsesAreNeverOverspent(t *testing.T) {
	d := open(t)
	k := registry.Token{Hash: protocol.Hash{1}, Domain: 5, Uses: 3, Left: 3}
	update(t, d, func(tx *Tx) error {
		return errors.Join(tx.AddDomain(registry.Domain{Number: 5, Name: "d"}), tx.AddToken(k))
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range 20 {
		wg.Go(func() {
			err := d.Update(t.Context(), func(tx *Tx) error { return tx.UseToken(k.Hash) })
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
			} else if !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done != 3 {
		t.Errorf("%d uses of 3", done)
	}
}

func TestOutboxKeepsTheNewestVersion(t *testing.T) {
	d := open(t)
	owner := protocol.NewID(5, protocol.Hash{1})
	rec := func(seq uint64) registry.Record {
		return registry.Record{Table: protocol.TableEndDevice, Owner: owner, Epoch: 1, Sequence: seq, Expires: time.UnixMilli(1 << 41), Raw: []byte{byte(seq)}}
	}
	update(t, d, func(tx *Tx) error { return errors.Join(tx.PutRecord(rec(1)), tx.PutRecord(rec(2)), tx.Confirm(rec(1))) })
	update(t, d, func(tx *Tx) error {
		out, err := tx.Outbox(0, 10)
		if err != nil || len(out) != 1 || out[0].Sequence != 2 {
			t.Errorf("%+v, %v", out, err)
		}
		if err := tx.Confirm(rec(2)); err != nil {
			t.Error(err)
		}
		if n, err := tx.OutboxSize(5); err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := tx.Requeue(protocol.TableEndDevice, 6, time.UnixMilli(1)); err != nil || n != 0 {
			t.Errorf("another domain: %d, %v", n, err)
		}
		if n, err := tx.Requeue(protocol.TableEndDevice, 5, time.UnixMilli(1)); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		if err := tx.Withdraw(protocol.TableEndDevice, owner); err != nil {
			t.Error(err)
		}
		if out, err = tx.Outbox(0, 10); err != nil || len(out) != 0 {
			t.Errorf("withdrawn: %+v, %v", out, err)
		}
		if r, err := tx.Record(protocol.TableEndDevice, owner); err != nil || r.Sequence != 2 {
			t.Errorf("the sequence is forgotten: %+v, %v", r, err)
		}
		return nil
	})
}

func TestDamagedFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operator.db")
	if err := os.WriteFile(path, []byte("this is no database, not even a little"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(t.Context(), path); err == nil {
		d.Close()
		t.Error("opened")
	}
}
