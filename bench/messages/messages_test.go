package messages

import (
	"testing"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, Parts()) }

// Every cell runs for some milliseconds; its asker compares what came back, and a cell without answers is an error.
func TestEveryCellDoesItsWork(t *testing.T) {
	defer func(d time.Duration) { giveUp = d }(giveUp)
	giveUp = time.Minute // what a slow machine answers late is not lost
	b, err := Start(t.Context(), Size{Peers: 8, Records: 40})
	if err != nil {
		t.Fatal(err)
	}
	g, err := measure.Run(t.Context(), b.Group(), 2, 20*time.Millisecond)
	if err != nil {
		t.Error(err)
	}
	r, err := measure.Run(t.Context(), b.RecordsGroup(), 2, 20*time.Millisecond)
	if err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if len(g.Rows) != 10 || len(r.Rows) != 9 {
		t.Errorf("%d and %d rows", len(g.Rows), len(r.Rows))
	}
	for _, r := range append(g.Rows, r.Rows...) {
		if len(r.Runs) != 2 || r.Lost > 0 {
			t.Errorf("%+v", r)
		}
		t.Logf("%-40s %.0f", r.Name, r.Runs)
	}
}

func TestRecordsGrowth(t *testing.T) {
	g := RecordsGrowth(1000)
	g.Sizes = []int{200, 1000}
	s, err := measure.RunGrowth(t.Context(), g, 2, 20*time.Millisecond)
	if err != nil || len(s.Lines) != 2 {
		t.Fatalf("%d lines, %v", len(s.Lines), err)
	}
	for _, l := range s.Lines {
		if len(l.Points) != 2 || len(l.Points[1].Runs) != 2 {
			t.Errorf("%+v", l)
		}
	}
}
