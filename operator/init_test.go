package operator

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol/key"
)

func TestInitMakesAnOperatorOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "op")
	s, err := Init(t.Context(), dir, InitOptions{Advertise: "op.example.net", MayBind: func(int) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	if s.HTTPS != "op.example.net:443" || len(s.Warnings) != 0 || s.Name != "culvert" || !s.RootHere {
		t.Errorf("summary %+v", s)
	}
	for _, f := range []string{"keys/root.key", "keys/operator.key", "operator.db"} {
		st, err := os.Stat(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, "keys/root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, InitOptions{Advertise: "op.example.net:1"}); !errors.Is(err, ErrExists) {
		t.Errorf("a second init: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, dbFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), dir, InitOptions{Advertise: "op.example.net:1"}); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("keys without a database: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "keys/root.key"))
	if err != nil || string(before) != string(after) {
		t.Errorf("the root key changed: %v", err)
	}
}

func TestAdvertise(t *testing.T) {
	for _, c := range []struct {
		in   string
		may  bool
		want string
		warn int
	}{
		{"op.example.net", true, "op.example.net:443", 0},
		{"op.example.net", false, "op.example.net:7743", 1},
		{"op.example.net:8443", false, "op.example.net:8443", 0},
		{"192.0.2.7", true, "192.0.2.7:443", 0},
		{"2001:db8::7", true, "[2001:db8::7]:443", 0},
		{"[2001:db8::7]", true, "[2001:db8::7]:443", 0},
		{"[2001:db8::7]:99", true, "[2001:db8::7]:99", 0},
		{"", true, "", 0}, {"a b", true, "", 0}, {"op:0", true, "", 0}, {"op:65536", true, "", 0}, {"op:http", true, "", 0},
		{"0.0.0.0", true, "", 0}, {"::", true, "", 0}, {"fe80::1%eth0", true, "", 0}, {"224.0.0.1", true, "", 0}, {"-x.example", true, "", 0},
		{"a..b", true, "", 0}, {"https://op.example.net", true, "", 0},
	} {
		got, warn, err := advertised(c.in, func(int) bool { return c.may })
		if got != c.want || len(warn) != c.warn || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v, %v", c.in, got, warn, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.Context(), t.TempDir(), Options{}); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("an empty directory: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "op")
	if _, err := Init(t.Context(), dir, InitOptions{Advertise: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrRunning) {
		t.Errorf("a second process: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		n, err := Open(t.Context(), dir, Options{LockWait: time.Minute})
		if err == nil {
			err = n.Close()
		}
		next <- err
	}()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Errorf("one that waits: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if runtime.GOOS != "windows" {
		refuseMode(t, dir, "keys/operator.key", key.ErrLooseMode)
		refuseMode(t, dir, "keys/root.key", key.ErrLooseMode)
		refuseMode(t, dir, dbFile, sqlite.ErrLooseMode)
	}
	if err := newKeys(t).Save(filepath.Join(dir, "keys/operator.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a foreign operator key: %v", err)
	}
}

func refuseMode(t *testing.T, dir, file string, want error) {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), dir, Options{})
	if !errors.Is(err, want) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("%s with mode 0644: %v", file, err)
	}
	if err == nil {
		o.Close()
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOperatorRecordIsRenewedByTheRootOnly(t *testing.T) {
	o, c := newOperator(t)
	dir := o.Dir()
	first := static(t, o, 4, o.id)
	reopen := func() *Operator {
		t.Helper()
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		n, err := Open(t.Context(), dir, Options{Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	c.add(operatorRenew + time.Hour)
	o = reopen()
	second := static(t, o, 4, o.id)
	if !second.Supersedes(first) || !second.Expires.After(first.Expires) {
		t.Errorf("not renewed: %v after %v", second.Expires, first.Expires)
	}
	if err := os.Remove(filepath.Join(dir, "keys/root.key")); err != nil {
		t.Fatal(err)
	}
	c.add(operatorRenew + time.Hour)
	o = reopen()
	defer o.Close()
	if third := static(t, o, 4, o.id); third.Sequence != second.Sequence {
		t.Error("renewed without the root")
	}
	// The addresses change while the root is offline: the bundle carries them beside the record.
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	b, err := o.Bundle(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _, trust := o.Identity()
	contacts := b.Contacts(trust)
	if len(contacts) != 1 || contacts[0].Addr.String() != "127.0.0.1:7700" {
		t.Errorf("contacts %v", contacts)
	}
}

func TestAnnounceWithTheRootIsInTheRecord(t *testing.T) {
	o, _ := newOperator(t)
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	_, _, trust := o.Identity()
	op, ok := trust.Operator(o.id)
	if !ok || len(op.Addresses) != 1 || op.Addresses[0].String() != "127.0.0.1:7700" || op.HTTPS != "127.0.0.1:7743" {
		t.Errorf("operator %+v", op)
	}
	before := static(t, o, 4, o.id).Sequence
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	if static(t, o, 4, o.id).Sequence != before {
		t.Error("an unchanged address made a new record")
	}
	if m := worldMap(t, o); len(m.Members()) != 1 || m.Members()[0].Peer.ID != o.id {
		t.Errorf("map %v", m.Members())
	}
}

// ca.pem is what curl and the like verify the HTTPS server by.
func TestCAFileVerifiesTheServer(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(t.Context(), dir, InitOptions{Name: "test", Advertise: "127.0.0.1:7743"}); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	text, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in it")
	}
	c, err := o.newLeaf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		p, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(p)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
}
