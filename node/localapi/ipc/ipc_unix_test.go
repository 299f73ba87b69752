//go:build !windows

package ipc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange has a client say something to a server at address and returns who the server saw.
func exchange(t *testing.T, l net.Listener, address string) Caller {
	t.Helper()
	client, err := Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
	caller, err := CallerOf(server)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

func TestListenDialCaller(t *testing.T) {
	address := Address(t.TempDir())
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	caller := exchange(t, l, address)
	if caller.UID != strconv.Itoa(os.Getuid()) || caller.PID != os.Getpid() {
		t.Errorf("caller %+v", caller)
	}
	if exe, err := os.Executable(); err == nil && runtime.GOOS == "linux" && caller.Program != exe {
		t.Errorf("program %q, want %q", caller.Program, exe)
	}
	if l.Addr().String() != address {
		t.Errorf("address %v", l.Addr())
	}
	info, err := os.Lstat(address)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 && mode != 0o660 {
		t.Errorf("mode %v", mode)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(address); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if _, err := Dial(t.Context(), address); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	address := Address(t.TempDir())
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(address); !errors.Is(err, ErrInUse) {
		t.Errorf("with the lock: %v", err)
	}
	if err := os.Remove(address + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(address); !errors.Is(err, ErrInUse) {
		t.Errorf("without the lock: %v", err)
	}
	probe, err := l.Accept() // the second daemon only looked whether somebody answers
	if err != nil {
		t.Fatal(err)
	}
	probe.Close()
	exchange(t, l, address)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	address := Address(t.TempDir())
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as after kill -9
	dead.Close()
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	exchange(t, l, address)
}

func TestOtherFilesAreNotReplaced(t *testing.T) {
	address := Address(t.TempDir())
	if err := os.WriteFile(address, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(address); !errors.Is(err, ErrAddress) {
		t.Errorf("a plain file: %v", err)
	}
	if got, err := os.ReadFile(address); err != nil || string(got) != "mine" {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

func TestForeignSocketSurvivesClose(t *testing.T) {
	address := Address(t.TempDir())
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(address); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(address, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(address); err != nil {
		t.Errorf("what somebody else put there is gone: %v", err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(Address(dir))
	if runtime.GOOS != "linux" {
		if !errors.Is(err, ErrAddress) {
			t.Errorf("a path that does not fit: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	exchange(t, l, Address(dir))
	if _, err := Listen(filepath.Join(dir, strings.Repeat("f", 120))); !errors.Is(err, ErrAddress) {
		t.Errorf("a file name that does not fit: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "no", "dir"), file, filepath.Join(file, "below")} {
		if _, err := Dial(context.Background(), address); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("%s: %v", address, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(ctx, file); err == nil {
		t.Error("a cancelled context connects")
	}
}
