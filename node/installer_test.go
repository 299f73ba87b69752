package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"culvert/protocol"
)

func TestCleanName(t *testing.T) {
	long := "a-very-long-host-name-that-somebody-has-made-up-for-a-computer-in-the-cellar"
	for host, want := range map[string]string{
		"desk-7": "desk-7", "desk-7.example.com": "desk-7", "": "node", "...": "node", "-x": "x", "büro 1": "b-ro-1", "日本": "node",
		long: long[:protocol.MaxName],
	} {
		got := cleanName(host)
		if got != want {
			t.Errorf("%q: %q, not %q", host, got, want)
		}
		if err := protocol.CheckName(got); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestInstallerToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), installerToken)
	if err := os.WriteFile(path, []byte(" culvert-join-1-x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readToken(path); err != nil || s != "culvert-join-1-x" {
		t.Errorf("%q %v", s, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readToken(path); !errors.Is(err, errLooseToken) {
		t.Errorf("mode 0644: %v", err)
	}
}
