package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestDefaultDataDir(t *testing.T) {
	for _, c := range []struct {
		goos string
		root bool
		home string
		env  map[string]string
		want string
	}{
		{"linux", true, "/root", nil, "/var/lib/culvert"},
		{"linux", false, "/home/a", nil, "/home/a/.local/state/culvert"},
		{"linux", false, "/home/a", map[string]string{"XDG_STATE_HOME": "/state"}, "/state/culvert"},
		{"linux", false, "/home/a", map[string]string{"XDG_STATE_HOME": "relative"}, "/home/a/.local/state/culvert"},
		{"linux", false, "", nil, ""},
		{"darwin", false, "/Users/a", nil, "/Users/a/Library/Application Support/culvert"},
		{"darwin", true, "/var/root", nil, "/Library/Application Support/culvert"},
	} {
		got := defaultDataDir(c.goos, c.root, c.home, func(k string) string { return c.env[k] })
		if filepath.ToSlash(got) != c.want {
			t.Errorf("%s root=%v: got %q, want %q", c.goos, c.root, got, c.want)
		}
	}
}

func TestDataDirPrecedence(t *testing.T) {
	env := func(k string) string { return map[string]string{"CULVERT_DATA": "/from/env"}[k] }
	if got, err := DataDir("/from/flag", env); err != nil || got != "/from/flag" {
		t.Errorf("flag: %q, %v", got, err)
	}
	if got, err := DataDir("", env); err != nil || got != "/from/env" {
		t.Errorf("environment: %q, %v", got, err)
	}
}

func TestMakeDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := MakeDataDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode != 0o700 && mode != 0o710 {
		t.Errorf("mode %v", mode)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDataDir(file); !errors.Is(err, ErrConfig) {
		t.Errorf("a file: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := MakeDataDir(dir); !errors.Is(err, ErrConfig) {
		t.Errorf("a directory open to all: %v", err)
	}
}
