package report

import (
	"strings"
	"testing"
)

func TestWorseIsMoreThanNoise(t *testing.T) {
	run := func(rows ...Row) *Report { return &Report{Groups: []Group{{Title: "t", Rows: rows}}} }
	ref := Row{Name: "ref", Unit: "/s", Runs: []float64{100, 200, 100}}
	half := Row{Name: "ref", Unit: "/s", Runs: []float64{50, 50, 50}}
	for name, c := range map[string]struct {
		before, now Row
		ref         Row
		worse       bool
	}{
		"same":               {Row{Runs: []float64{9, 10, 11}}, Row{Runs: []float64{8, 9, 10}}, ref, false},
		"every round worse":  {Row{Runs: []float64{9, 10, 11}}, Row{Runs: []float64{6, 7, 8}}, ref, true},
		"better":             {Row{Runs: []float64{9, 10, 11}}, Row{Runs: []float64{60, 70, 80}}, ref, false},
		"longer":             {Row{Less: true, Runs: []float64{9, 10}}, Row{Less: true, Runs: []float64{12, 13}}, ref, true},
		"slower machine":     {Row{Reference: "ref", Runs: []float64{50, 100, 50}}, Row{Reference: "ref", Runs: []float64{25, 25, 25}}, half, false},
		"worse beside it":    {Row{Reference: "ref", Runs: []float64{50, 100, 50}}, Row{Reference: "ref", Runs: []float64{20, 20, 20}}, half, true},
		"without any figure": {Row{Runs: []float64{9, 10, 11}}, Row{}, ref, false},
	} {
		before, now := run(ref, c.before), run(c.ref, c.now)
		l, n := now.WorseThan(before)
		worse := 0
		for _, ch := range l {
			if ch.Row == "" {
				worse++
			}
		}
		if (worse == 1) != c.worse || n == 0 {
			t.Errorf("%s: %+v of %d", name, l, n)
		}
	}
	var b strings.Builder
	l, n := run(Row{Name: "r", Unit: "/s", Runs: []float64{1}}).WorseThan(run(Row{Name: "r", Unit: "/s", Runs: []float64{2}}))
	if err := PrintWorse(&b, l, n, "then.json"); err != nil || !strings.Contains(b.String(), "1 of 1 figures are worse than in then.json") {
		t.Errorf("%s, %v", b.String(), err)
	}
	then, now := &Report{Series: []Series{growing()}}, &Report{Series: []Series{growing()}}
	now.Series[0].Lines[0].Points[1].Runs = []float64{25, 26, 25}
	if l, n := now.WorseThan(then); n != 4 || len(l) != 1 || l[0].Row != "GetNode, p50, 1,000,000 records" {
		t.Errorf("series: %+v of %d", l, n)
	}
	if l, n := run().WorseThan(&Report{}); len(l) != 0 || n != 0 {
		t.Error("tables that are in one run only are compared")
	}
}
