package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, Parts()) }

func TestDeviceSeesOtherBytes(t *testing.T) {
	good := append(bytes.Clone(pattern), pattern[:1000]...)
	if n, err := sink(bytes.NewReader(good)); err != nil || n != uint64(len(good)) {
		t.Errorf("%d of %d, %v", n, len(good), err)
	}
	for name, bad := range map[string][]byte{
		"changed":  append([]byte{good[0] ^ 1}, good[1:]...),
		"one lost": good[1:],
		"in block": append(bytes.Clone(good[:block]), pattern[1:1000]...),
	} {
		if _, err := sink(bytes.NewReader(bad)); !errors.Is(err, errPattern) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A way without processes between has no table of what they use, and all others.
func TestTablesOfTheDeviceItself(t *testing.T) {
	c, at, err := StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	groups := Tables([]Way{{Name: "plain", To: at}}, Size{Streams: 2, AtOnce: 3, Idle: 4})
	if len(groups) != 4 {
		t.Errorf("%d tables", len(groups))
	}
	for _, g := range groups {
		if _, err := measure.Run(t.Context(), g, 1, 5*time.Millisecond); err != nil {
			t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestUseOfAProcess(t *testing.T) {
	c, at, err := StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := Way{Name: "device", To: at, Procs: []Proc{{Name: "device", PID: c.PID()}}}
	w.Fresh = func(context.Context) (Way, func() error, error) { return w, func() error { return nil }, nil }
	before, err := Using(w.Procs)
	if errors.Is(err, ErrUnknown) {
		if len(Tables([]Way{w}, Full)) != 4 {
			t.Error("tables of what nobody knows")
		}
	} else {
		checkUse(t, w, before, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Using(w.Procs); err == nil {
		t.Error("a process that has ended uses something")
	}
}

// What is read of a process that ends meanwhile says so, in its own way.
func TestProcessThatEndsWhileItIsRead(t *testing.T) {
	c, _, err := StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/stat", c.PID()))
	if cerr := c.Close(); cerr != nil {
		t.Error(cerr)
	}
	if err != nil {
		return // this system tells nothing of processes
	}
	defer f.Close()
	if _, err := io.ReadAll(f); !ended(err) {
		t.Errorf("got %v", err)
	}
}

func checkUse(t *testing.T, w Way, before Use, err error) {
	t.Helper()
	if err != nil || before.RSS < 1<<20 || before.Descriptors < 3 {
		t.Fatalf("%+v, %v", before, err)
	}
	conns, err := Stand(t.Context(), w.To, 50)
	if err != nil || len(conns) != 50 {
		t.Fatalf("%d stand, %v", len(conns), err)
	}
	with, err := Using(w.Procs)
	if err != nil || with.Descriptors < before.Descriptors+50 {
		t.Errorf("%d descriptors before, %d with 50 connections, %v", before.Descriptors, with.Descriptors, err)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	if len(Tables([]Way{w}, Full)) != 6 {
		t.Error("tables are missing")
	}
	for _, c := range []measure.Cell{CPUCell(w), IdleCell(w, 5)} {
		if s, err := c.Run(t.Context(), 20*time.Millisecond); err != nil || s.Value <= 0 {
			t.Errorf("%+v, %v", s, err)
		}
	}
}
