package report

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func compared() *Report {
	return &Report{Groups: []Group{
		{Title: "speed", Rows: []Row{
			{Name: "ours", Unit: "/s", Runs: []float64{120, 130, 125}},
			{Name: "slow", Unit: "/s", Runs: []float64{60, 65, 62}},
			{Name: "fast", Unit: "/s", Runs: []float64{100, 100, 100}},
		}},
		{Title: "wait", Rows: []Row{
			{Name: "ours", Unit: "µs", Less: true, Runs: []float64{50}},
			{Name: "slow", Unit: "µs", Less: true, Runs: []float64{100}},
			{Name: "fast", Unit: "µs", Less: true, Runs: []float64{40}},
		}},
	}}
}

func TestClaimsAreBesideTheBest(t *testing.T) {
	r := compared()
	r.Series = []Series{growing()}
	promised := growing().Claims()
	if len(promised) != 1 {
		t.Fatalf("%+v", promised)
	}
	for _, c := range []struct {
		claim Claim
		got   float64
		best  string
		holds bool
	}{
		{Claim{In: "speed", Row: "ours", To: []string{"slow", "fast", "not installed"}, Want: 1.15}, 1.25, "fast", true},
		{Claim{In: "speed", Row: "ours", To: []string{"fast"}, Want: 1.3}, 1.25, "fast", false},
		{Claim{In: "wait", Row: "ours", To: []string{"slow", "fast"}, Want: 1, AtMost: true}, 1.25, "fast", false},
		{promised[0], 1.2, "", true},
		{Claim{In: "lookups", Row: "Put", Growth: true, Want: 1.2, AtMost: true}, 1.5, "", false},
		{Claim{In: "lookups", Row: "none", Growth: true, Want: 1.2, AtMost: true}, math.NaN(), "", false},
		{Claim{In: "wait", Row: "ours", Want: 60, AtMost: true}, 50, "", true},
		{Claim{In: "wait", Row: "ours", To: []string{"not installed"}, Want: 1}, math.NaN(), "", false},
		{Claim{In: "wait", Row: "other", Want: 1}, math.NaN(), "", false},
		{Claim{In: "other", Row: "ours", Want: 1}, math.NaN(), "", false},
	} {
		got := c.claim.Judge(r)
		if got.Got != c.got && !(math.IsNaN(got.Got) && math.IsNaN(c.got)) || got.Best != c.best || got.Holds() != c.holds {
			t.Errorf("%+v: got %v beside %q, holds %v", c.claim, got.Got, got.Best, got.Holds())
		}
		if _, err := json.Marshal(got); err != nil {
			t.Error(err)
		}
	}
}

func TestClaimsTable(t *testing.T) {
	r := compared()
	var b strings.Builder
	if err := PrintClaims(&b, []Claim{
		Claim{Text: "faster", In: "speed", Row: "ours", To: []string{"fast"}, Want: 1.15}.Judge(r),
		Claim{Text: "waits", In: "wait", Row: "ours", To: []string{"fast"}, Want: 1, AtMost: true}.Judge(r),
		Claim{Text: "other", In: "wait", Row: "other", Want: 27, AtMost: true}.Judge(r),
	}); err != nil {
		t.Fatal(err)
	}
	want := `
wanted    want   got                of
faster  ≥ 1.15  1.25         holds  fast
waits      ≤ 1  1.25   falls short  fast
other     ≤ 27     –  not measured
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
