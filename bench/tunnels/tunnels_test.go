package tunnels

import (
	"errors"
	"testing"
	"time"

	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/proc/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, Parts(), load.Parts()) }

// Every cell runs for some milliseconds; the device checks what arrives, and a cell without bytes is an error.
func TestEveryCellDoesItsWork(t *testing.T) {
	d, at, err := load.StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Start(t.Context(), at)
	if err != nil {
		t.Fatal(errors.Join(err, d.Close()))
	}
	for _, g := range load.Tables(b.Ways(), load.Size{Streams: 8, AtOnce: 32, Idle: 20}) {
		rows, err := measure.Run(t.Context(), g, 1, 20*time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		for _, r := range rows.Rows {
			t.Logf("%-45s %-30s %.1f %s", g.Title, r.Name, r.Runs, r.Unit)
		}
	}
	if err := errors.Join(b.Close(), d.Close()); err != nil {
		t.Error(err)
	}
}
