package tunnels

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/bench/measure"
	"culvert/bench/proc"
)

func TestMain(m *testing.M) {
	ran, err := proc.Run(Parts())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !ran {
		goleak.VerifyTestMain(m)
	}
}

// Every cell runs for some milliseconds; the device checks what arrives, and a cell without bytes is an error.
func TestEveryCellDoesItsWork(t *testing.T) {
	b, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range b.Groups() {
		rows, err := measure.Run(t.Context(), g, 2, 20*time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		for _, r := range rows.Rows {
			t.Logf("%-30s %.1f %s", r.Name, r.Runs, r.Unit)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestDeviceSeesOtherBytes(t *testing.T) {
	d := &device{data: pattern()}
	good := append(bytes.Clone(d.data), d.data[:1000]...)
	if n, err := d.sink(bytes.NewReader(good)); err != nil || n != uint64(len(good)) {
		t.Errorf("%d of %d, %v", n, len(good), err)
	}
	for name, bad := range map[string][]byte{
		"changed":  append([]byte{good[0] ^ 1}, good[1:]...),
		"one lost": good[1:],
		"in block": append(bytes.Clone(good[:block]), d.data[1:1000]...),
	} {
		if _, err := d.sink(bytes.NewReader(bad)); !errors.Is(err, errPattern) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
