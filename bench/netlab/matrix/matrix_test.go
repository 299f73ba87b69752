//go:build linux && netlab

package matrix

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"culvert/bench/netlab/mesh"
)

// measure runs the matrix over some batches of pairs and prints what came out.
func measure(t *testing.T, rounds int, batches [][]Pair) *Results {
	t.Helper()
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	program, dir := prepare(t)
	var users, devices []Kind
	for _, p := range batches[0] {
		users, devices = append(users, p.User), append(devices, p.Device)
	}
	log := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	w, err := NewWorld(ctx, program, dir, users, devices, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range w.Processes() {
				t.Logf("---- %s wrote:\n%s", p, p.Tail(logTail))
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	r, err := w.Measure(ctx, program, rounds, batches)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.Print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
	return r
}

// prepare puts the binary under test where nobody reaches it, and makes a
// folder for agents there.
func prepare(t *testing.T) (program, dir string) {
	t.Helper()
	from, err := mesh.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "culvert")
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return program, dir
}

// The telling pairs, twice. How soon is for the whole matrix on a machine of
// its own: here only the routes count. What chance has a part in need not come
// out every time.
func TestSomePairs(t *testing.T) {
	r := measure(t, 2, [][]Pair{Sample()})
	for _, m := range r.Pairs {
		_, hard := m.hard()
		met := false
		for _, run := range m.Runs {
			good := run.Up && asGood(run.Route, m.Expected)
			met = met || good
			if !good && !(hard && run.Up) {
				t.Errorf("%s to %s, round %d: %s, want %s: %s %s", m.User, m.Device, run.Round, orNone(run.Route), m.Expected, run.Error, run.Receipt)
			}
		}
		if !met {
			t.Errorf("%s to %s is never %s", m.User, m.Device, m.Expected)
		}
	}
	for _, c := range r.Netcheck {
		if c.Error != "" || c.Got != c.Expected {
			t.Errorf("netcheck at the %s's site %s: %q, want %q %s", c.Side, c.Kind, c.Got, c.Expected, c.Error)
		}
	}
}
