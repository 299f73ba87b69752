//go:build linux && netlab

package mesh

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
)

// stand is a stand-in for the binary: it keeps what it was called with and
// answers as the command line says.
const stand = `#!/bin/sh
echo "$*" >> "$CULVERT_DATA/calls"
case "$1" in
run) echo $$ > "$CULVERT_DATA/pid"; exec sleep 1000 ;;
status) kill -0 "$(cat "$CULVERT_DATA/pid" 2>/dev/null)" 2>/dev/null || { echo "no daemon runs here" >&2; exit 3; } ;;
location) echo '[{"id":"00ff","interface":"eth0","prefix":"45.22.0.0/24","gateway":"45.22.0.1"}]' ;;
devices) echo '[{"id":"1","name":"printer"}]' ;;
open) [ "$2" = printer ] || { echo "$2 is not registered" >&2; exit 1; }
  echo '{"id":"7","device":"printer","port":"9100","local":"127.0.0.1:4000","route":"relayed","tunnel_node":"ab"}' ;;
join) exec sleep 1000 ;;
esac
`

func newStand(t *testing.T) *Agent {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // agents are nobody
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "culvert")
	if err := os.WriteFile(bin, []byte(stand), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(t.Context(), filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	h, err := l.Public("desk", netip.MustParsePrefix("45.22.0.2/24"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAgent(bin, h, dir, "tunnel = true\n")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAgentCommands(t *testing.T) {
	a := newStand(t)
	ctx := t.Context()
	failed := (*CommandError)(nil)
	if _, err := a.Do(ctx, "status"); !errors.As(err, &failed) || failed.Code != 3 || !strings.Contains(err.Error(), "no daemon") {
		t.Errorf("status without a daemon: %v", err)
	}
	if err := a.Start(ctx, "--super"); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx); err == nil {
		t.Error("two daemons run in one folder")
	}
	if l, err := a.Location(ctx); err != nil || l.Gateway != "45.22.0.1" {
		t.Errorf("location %+v, %v", l, err)
	} else if id, err := l.Bytes(); err != nil || string(id) != "\x00\xff" {
		t.Errorf("location ID %x, %v", id, err)
	}
	if err := a.Lookup(ctx, "printer"); err != nil {
		t.Error(err)
	}
	if err := a.Lookup(ctx, "plotter"); err == nil {
		t.Error("a device that is not listed was found")
	}
	if got, err := a.AwaitOpen(ctx, "printer", 9100, "--route", "relayed"); err != nil || got.Local != "127.0.0.1:4000" || got.Route != "relayed" {
		t.Errorf("open %+v, %v", got, err)
	}
	if _, err := a.Open(ctx, "plotter", 9100); !errors.As(err, &failed) || failed.Code != 1 {
		t.Errorf("open of what is not registered: %v", err)
	}
	if err := a.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	a.Kill()
	if a.Running() {
		t.Error("the daemon survives kill -9")
	}
	if err := a.Await(ctx, "to live", func() error { return errors.New("not yet") }); err == nil || !strings.Contains(err.Error(), "ended while") {
		t.Errorf("waiting for a dead daemon: %v", err)
	}
	calls, err := os.ReadFile(filepath.Join(a.Dir(), "calls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"run --super\n", "location --json\n", "open printer 9100 --route relayed --json\n"} {
		if !strings.Contains(string(calls), want) {
			t.Errorf("no call %q among:\n%s", want, calls)
		}
	}
	if strings.Count(string(calls), "run --super\n") != 2 {
		t.Error("the restart had other flags")
	}
}

// A command that hangs ends with its context, and says so.
func TestCommandHangs(t *testing.T) {
	a := newStand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.Join(ctx, "token"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestBinaryMustBeNamed(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		t.Setenv(BinaryVar, path)
		if got, err := Binary(); err == nil {
			t.Errorf("%q is taken as %q", path, got)
		}
	}
}
