package report

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func growing() Series {
	return Series{Title: "lookups", X: "records", Lines: []Line{
		{Name: "GetNode, p50", Unit: "µs", Less: true, Within: 1.5, Points: []Point{{1000, []float64{10, 20, 10}}, {1_000_000, []float64{12, 24, 12}}}},
		{Name: "Put", Unit: "/s", Points: []Point{{1000, []float64{30000}}, {1_000_000, []float64{20000}}}},
	}}
}

func TestSeriesTable(t *testing.T) {
	var b strings.Builder
	if err := growing().Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `
lookups, by records       GetNode, p50, µs  Put, /s
1,000                                   10   30,000
1,000,000                               12   20,000
worse at the end by  × 1.20 (may be × 1.5)   × 1.50
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestSeriesWithoutAnEnd(t *testing.T) {
	if v := (Line{Points: []Point{{1, []float64{3}}}}).Growth(); !math.IsNaN(v) {
		t.Errorf("one size grows by %v", v)
	}
}

func TestSeriesPlotsAndJSON(t *testing.T) {
	l := growing().Plots("a note")
	if len(l) != 2 || l[0].Y.Label != "µs" || l[0].X.Label != "records" || len(l[0].Lines[0].X) != 2 || l[1].Lines[0].Y[1] != 20000 {
		t.Errorf("%+v", l)
	}
	if svg := string(l[0].SVG()); !strings.Contains(svg, "GetNode, p50") || !strings.Contains(svg, "a note") {
		t.Error("the picture does not say what it shows")
	}
	b, err := json.Marshal(growing())
	if err != nil || !strings.Contains(string(b), `"median":10`) {
		t.Errorf("%s, %v", b, err)
	}
}
