package operator

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"culvert/protocol/key"

	"golang.org/x/sync/errgroup"
)

func backup(t *testing.T, o *Operator) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup")
	if _, err := Backup(t.Context(), o.dir, file, o.now()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBackupAndRestore(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	newToken(t, o, TokenSpec{Domain: "acme"})
	if _, err := o.CreateAPIKey(t.Context(), admin, ""); err != nil {
		t.Fatal(err)
	}
	file := backup(t, o) // while it is open
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), o.dir, file, c.now()); !errors.Is(err, ErrExists) {
		t.Errorf("over another: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Error("the other was touched")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Backup(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "none"), c.now()); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("of nothing: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	again := backup(t, o) // while it is not
	for _, f := range []string{file, again} {
		dir := filepath.Join(t.TempDir(), "new")
		out, err := Restore(t.Context(), f, dir, RestoreOptions{Now: c.now})
		if err != nil || out.Summary.ID != o.id || out.Standby || out.Summary.Standing != restored {
			t.Fatalf("%+v, %v", out, err)
		}
		for _, name := range []string{dbFile, "keys/root.key", "keys/operator.key"} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
				t.Errorf("%s: %v, %v", name, st, err)
			}
		}
		r := openedAt(t, dir, c)
		tokens, err := r.Tokens(t.Context(), admin, "")
		keys, kerr := r.APIKeys(t.Context(), admin)
		domains, derr := r.Domains(t.Context(), admin)
		if err = errors.Join(err, kerr, derr); err != nil || len(tokens) != 0 || len(keys) != 0 || len(domains) != 1 {
			t.Errorf("%d tokens, %d keys, %d domains, %v", len(tokens), len(keys), len(domains), err)
		}
		if _, err := Restore(t.Context(), f, dir, RestoreOptions{Now: c.now}); !errors.Is(err, ErrExists) {
			t.Errorf("over an operator: %v", err)
		}
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), file, other, RestoreOptions{Now: c.now}); !errors.Is(err, ErrExists) {
		t.Errorf("into a directory with a file: %v", err)
	}
}

// A backup that is taken during writes is one moment of them.
func TestBackupDuringWrites(t *testing.T) {
	o, c := newOperator(t)
	var g errgroup.Group
	stop := make(chan struct{})
	g.Go(func() error {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return nil
			default:
			}
			if _, err := o.AddDomain(t.Context(), admin, "d"+string(rune('a'+i%26))+time.Duration(i).String()); err != nil {
				return err
			}
		}
	})
	for range 3 {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := Restore(t.Context(), backup(t, o), dir, RestoreOptions{Now: c.now}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// Nothing but the very bytes that were backed up is restored, and what failed leaves nothing.
func TestDamagedBackup(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	file := backup(t, o)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte) error {
		t.Helper()
		f := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "new")
		_, err := Restore(t.Context(), f, dir, RestoreOptions{Now: c.now})
		if left, rerr := os.ReadDir(dir); rerr == nil && err != nil && len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		return err
	}
	if err := try(whole); err != nil {
		t.Fatal(err)
	}
	const tries = 60
	for i := range tries {
		at := i * len(whole) / tries
		if err := try(whole[:at]); err == nil {
			t.Errorf("cut at %d of %d: restored", at, len(whole))
		}
		b := bytes.Clone(whole)
		if b[at] ^= 1; bytes.Equal(bytes.TrimRight(b, "\x00"), whole) {
			continue
		}
		if err := try(b); err == nil && !harmless(at, whole) {
			t.Errorf("changed at %d of %d: restored", at, len(whole))
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), file, filepath.Join(t.TempDir(), "new"), RestoreOptions{Now: c.now}); !errors.Is(err, key.ErrLooseMode) {
			t.Errorf("readable by others: %v", err)
		}
	}
}

// harmless is the padding between a tar file's entries, which holds nothing.
func harmless(at int, whole []byte) bool {
	from, to := at-at%512, at-at%512+512
	return whole[at] == 0 && bytes.Equal(bytes.TrimRight(whole[from:to], "\x00"), bytes.TrimRight(whole[from:at], "\x00")) || to > len(whole)-1024
}
