package nodetest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/node"
	"culvert/node/config"
)

// The test binary is a node, too: processes that are to be killed are this one again, with these set.
const (
	envDir    = "NODETEST_DIR"
	envListen = "NODETEST_LISTEN"
	envSuper  = "NODETEST_SUPER"
	// envConsent is “NAME PORT” of a device that the node may serve on this machine.
	envConsent = "NODETEST_CONSENT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := runProcess(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// These tests wait more than they compute: more of them at once than there are cores.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("6"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if code == 0 {
		leaked := func() error {
			return goleak.Find(goleak.IgnoreTopFunction("os/signal.loop"), goleak.IgnoreTopFunction("os/signal.signal_recv"))
		}
		err := leaked() // it looks again and again for a second or two, within which a busy machine may not have ended them all
		for end := time.Now().Add(patience); err != nil && time.Now().Before(end); {
			err = leaked()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// runProcess is `culvert run` without the command line.
func runProcess(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := loopbackSettings()
	s.Listen, s.Super = os.Getenv(envListen), os.Getenv(envSuper) != ""
	if name, port, ok := strings.Cut(os.Getenv(envConsent), " "); ok {
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return err
		}
		s.Consent = []config.Consent{{Device: name, Ports: []config.Port{{Number: uint16(p)}}}}
	}
	n, err := node.New(ctx, node.Config{Dir: dir, Settings: s, Version: "test", Log: newLog(os.Stderr)})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// patience bounds every wait; nothing comes near it unless something is broken.
const patience = 2 * time.Minute

// lookupWave is longer than a busy machine is late, for lookups of which none may fail: who says nothing for so long does not serve.
const lookupWave = 4 * time.Second

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) time.Duration {
	t.Helper()
	return within(t, patience, what, f)
}

func within(t testing.TB, limit time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(limit); ; {
		if f() {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func has(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
