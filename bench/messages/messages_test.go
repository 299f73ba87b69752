package messages

import (
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

// Every cell runs for some milliseconds; its asker compares what came back, and a cell without answers is an error.
func TestEveryCellDoesItsWork(t *testing.T) {
	b, err := Start(t.Context(), Size{Peers: 8, Records: 40})
	if err != nil {
		t.Fatal(err)
	}
	g, err := measure.Run(t.Context(), b.Group(), 2, 20*time.Millisecond)
	if err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if len(g.Rows) != 11 {
		t.Errorf("%d rows", len(g.Rows))
	}
	for _, r := range g.Rows {
		if len(r.Runs) != 2 || r.Lost > 0 {
			t.Errorf("%+v", r)
		}
		t.Logf("%-40s %.0f", r.Name, r.Runs)
	}
}
