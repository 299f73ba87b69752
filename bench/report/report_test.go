package report

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, 1, 1, 1, 100}, 1},
	} {
		if got := Median(c.v); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.v, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("median of nothing is something")
	}
	v := []float64{3, 1, 2}
	if Median(v); v[0] != 3 {
		t.Error("Median reorders what it is given: rounds no longer match")
	}
}

func TestRatioIsOfRounds(t *testing.T) {
	// The machine was twice as slow in the second round: a ratio of medians would show 0.5 only by luck.
	if got := Ratio([]float64{50, 25, 50}, []float64{100, 50, 100}); got != 0.5 {
		t.Errorf("got %v, want 0.5", got)
	}
	if got := Ratio([]float64{1, 8}, []float64{0, 4}); got != 2 {
		t.Errorf("a round without a reference counts: %v", got)
	}
	if !math.IsNaN(Ratio([]float64{1}, nil)) || !math.IsNaN(Ratio(nil, []float64{1})) {
		t.Error("ratio to nothing is something")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.123456: "0.123", 12.345: "12.3", 99.6: "99.6", 123.4: "123", 1234: "1,234", 1234567: "1,234,567", -4321: "-4,321",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
	if Number(math.NaN()) != "–" {
		t.Error("NaN is shown as a figure")
	}
}

func example() *Report {
	return &Report{
		Date: time.Date(2026, 8, 1, 9, 30, 0, 0, time.UTC), Culvert: "v1", Rounds: 3, Seconds: 1,
		Machine: Machine{CPU: "cpu", Cores: 2, OS: "linux", Arch: "amd64", Kernel: "kernel 6", Go: "go1", Load: "0 0 0"},
		Groups: []Group{{Title: "round trips", Notes: "a note", Rows: []Row{
			{Name: "plain", Unit: "/s", Runs: []float64{200000, 100000, 210000}},
			{Name: "sealed", Unit: "/s", Runs: []float64{100000, 50000, 105000}, Reference: "plain", Lost: 3},
			{Name: "never run", Unit: "/s", Reference: "plain"},
		}}},
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := example().Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `culvert v1, 2026-08-01 09:30 UTC
cpu, 2 cores, kernel 6, go1 linux/amd64, load 0 0 0
medians of 3 rounds of 1s a cell [least … most]; ratio: median of the rounds' ratios to the reference

round trips          median       least … most  ratio  to
plain            200,000 /s  100,000 … 210,000
sealed (3 lost)  100,000 /s   50,000 … 105,000   0.50  plain
never run              – /s              – … –         plain
a note
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", FileName(example().Date))
	if err := example().Write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Culvert string
		Groups  []struct {
			Rows []struct {
				Name             string
				Runs             []float64
				Median, Min, Max float64
			}
			Ratios map[string]float64
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	g := got.Groups[0]
	if got.Culvert != "v1" || g.Rows[0].Median != 200000 || g.Rows[0].Min != 100000 || g.Rows[0].Max != 210000 || len(g.Rows[1].Runs) != 3 {
		t.Errorf("%s", b)
	}
	if len(g.Ratios) != 1 || g.Ratios["sealed"] != 0.5 {
		t.Errorf("ratios %v", g.Ratios)
	}
	if FileName(example().Date) >= FileName(example().Date.Add(time.Second)) {
		t.Error("file names do not sort by date")
	}
}

func TestMachine(t *testing.T) {
	m := ThisMachine(t.Context())
	if m.CPU == "" || m.Cores < 1 || m.Kernel == "kernel " || m.Go == "" || m.Load == "" {
		t.Errorf("%+v", m)
	}
	if got := cpuModel("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\n"); got != "Some CPU @ 2GHz" {
		t.Errorf("%q", got)
	}
	if got := version("culvert v1-2-gabc (go1.26.8, linux/amd64)"); got != "v1-2-gabc" {
		t.Errorf("%q", got)
	}
	if Version(t.Context(), "") != "unknown" || Version(t.Context(), filepath.Join(t.TempDir(), "missing")) != "unknown" {
		t.Error("the version of no binary is known")
	}
}
