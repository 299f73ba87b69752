package node

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"culvert/node/config"
	"culvert/protocol"
	"culvert/protocol/key"
)

func testKeys(t *testing.T) *key.Pair {
	p, err := key.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMembershipFile(t *testing.T) {
	dir := t.TempDir()
	keys := testKeys(t)
	if err := keys.Save(filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	f := membershipFile{Version: membershipVersion, Name: "desk-7", DomainName: "acme", HTTPS: "192.0.2.1:443"}
	if err := f.save(dir); err != nil {
		t.Fatal(err)
	}
	got, k, err := readMembership(dir)
	if err != nil || got.Name != "desk-7" || got.HTTPS != f.HTTPS || !k.Signing.Equal(keys.Signing) {
		t.Fatalf("%+v %v", got, err)
	}
	st, err := os.Stat(filepath.Join(dir, membershipJSON))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestMembershipDamage(t *testing.T) {
	fresh := func(t *testing.T) string {
		dir := t.TempDir()
		if err := testKeys(t).Save(filepath.Join(dir, keyFile)); err != nil {
			t.Fatal(err)
		}
		f := membershipFile{Version: membershipVersion}
		if err := f.save(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, spoil := range map[string]func(dir string) error{
		"no key":       func(dir string) error { return os.Remove(filepath.Join(dir, keyFile)) },
		"no file":      func(dir string) error { return os.Remove(filepath.Join(dir, membershipJSON)) },
		"half a file":  func(dir string) error { return os.Truncate(filepath.Join(dir, membershipJSON), 20) },
		"half a key":   func(dir string) error { return os.Truncate(filepath.Join(dir, keyFile), 20) },
		"a new format": func(dir string) error { f := membershipFile{Version: 99}; return f.save(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := fresh(t)
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, _, err := readMembership(dir); !errors.Is(err, errDamaged) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("loose key", func(t *testing.T) {
		dir := fresh(t)
		if err := os.Chmod(filepath.Join(dir, keyFile), 0o644); err != nil {
			t.Fatal(err)
		}
		// For the owner to mend, not to be thrown away.
		if _, _, err := readMembership(dir); !errors.Is(err, key.ErrLooseMode) || errors.Is(err, errDamaged) {
			t.Errorf("%v", err)
		}
	})
}

func TestRenewAt(t *testing.T) {
	c := &protocol.CertifiedNode{Issued: testNow, Expires: testNow.Add(30 * 24 * time.Hour)}
	if at := renewAt(c); !at.Equal(testNow.Add(20 * 24 * time.Hour)) {
		t.Errorf("renewed at %v", at)
	}
}

// A location that was left stays a lookup key for one record's life, so that who looks there sees the newer record.
func TestLookupsOfLeftLocations(t *testing.T) {
	n := &Node{cfg: Config{Settings: config.Default()}}
	m := &membership{node: n}
	s := &protocol.DomainSecrets{Domain: 7}
	office, home := protocol.Hash{1}, protocol.Hash{2}
	ko, kh := s.LocationKey(office), s.LocationKey(home)
	if l := m.lookups(s, []protocol.Hash{office}, testNow); !slices.Equal(l, []protocol.Hash{ko}) {
		t.Fatalf("at the office: %v", l)
	}
	if l := m.lookups(s, []protocol.Hash{home}, testNow.Add(time.Minute)); !slices.Equal(l, []protocol.Hash{kh, ko}) {
		t.Fatalf("after moving: %v", l)
	}
	if l := m.lookups(s, []protocol.Hash{home}, testNow.Add(time.Hour)); !slices.Equal(l, []protocol.Hash{kh}) {
		t.Fatalf("an hour later: %v", l)
	}
}

func TestTasks(t *testing.T) {
	ts := newTasks(t.Context())
	ended := make(chan struct{})
	if !ts.start(func(ctx context.Context) { <-ctx.Done(); close(ended) }) {
		t.Fatal("not started")
	}
	ts.fail(errClosed)
	if err := ts.stop(); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
	select {
	case <-ended:
	default:
		t.Error("stop did not wait")
	}
	if ts.start(func(context.Context) {}) {
		t.Error("started after stop")
	}
}

// A bare name in the consent list is a promise to one domain's operator, not to whoever registers the same name.
func TestConsentsBelongToADomain(t *testing.T) {
	settings, err := config.Parse("config.toml", []byte("[[consent]]\ndevice = \"printer-1\"\nports = [\"631\"]\n[[consent]]\ndevice = \"door@acme\"\nports = [\"80\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: Config{Settings: settings}, log: slog.New(slog.DiscardHandler)}
	acme := &membership{node: n, domain: 7, file: membershipFile{DomainName: "acme"}}
	other := &membership{node: n, domain: 8, file: membershipFile{DomainName: "globex"}}
	names := func(m *membership, alone bool) (l []string) {
		for _, c := range n.consents(m, alone) {
			l = append(l, c.Device)
		}
		return l
	}
	if l := names(acme, true); !slices.Equal(l, []string{"printer-1", "door"}) {
		t.Errorf("alone: %v", l)
	}
	if l := names(acme, false); !slices.Equal(l, []string{"door"}) {
		t.Errorf("one of several: %v", l)
	}
	// A list that names nothing of a domain narrows to nothing; it is not an empty list, which narrows nothing.
	if l := names(other, false); !slices.Equal(l, []string{""}) {
		t.Errorf("the other: %v", l)
	}
}
