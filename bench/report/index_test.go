package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIndexIsNewestFirst(t *testing.T) {
	dir := t.TempDir()
	old, recent := example(), example()
	recent.Date, recent.Culvert = recent.Date.Add(time.Hour), "v2"
	recent.Worse = []Change{{Row: "plain"}}
	recent.Claims = []Claim{{In: "round trips", Row: "plain", Want: 1}, {In: "round trips", Row: "none", Want: 1}}
	for _, r := range []*Report{old, recent} {
		if err := r.Write(filepath.Join(dir, FileName(r.Date))); err != nil {
			t.Fatal(err)
		}
	}
	if err := recent.Draw(filepath.Join(dir, strings.TrimSuffix(FileName(recent.Date), ".json"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "scale-2026.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Index(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, IndexName))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	first, second := strings.Index(s, "| v2 |"), strings.Index(s, "| v1 |")
	if first < 0 || second < first || !strings.Contains(s, "| 1 of 2 | 1 | [plots](2026-08-01T103000Z) |") || !strings.Contains(s, "scale-2026.json") {
		t.Error(s)
	}
	r, name, err := Latest(dir, recent.Machine.Cores)
	if err != nil || r == nil || r.Culvert != "v2" || name != "2026-08-01T103000Z.json" {
		t.Errorf("latest %+v %s, %v", r, name, err)
	}
	if r, name, err := Latest(dir, 64); r != nil || name != "" || err != nil {
		t.Errorf("a run of another machine: %s, %v", name, err)
	}
	if r, _, err := Latest(filepath.Join(dir, "none"), 2); r != nil || err != nil {
		t.Errorf("no folder: %v", err)
	}
}

func TestPicturesOfAllTables(t *testing.T) {
	dir := t.TempDir()
	r := example()
	r.Series = []Series{growing()}
	if err := r.Draw(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"round-trips.svg", "lookups-us.svg", "lookups-s.svg"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(b), "medians of 3 rounds") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSummary(t *testing.T) {
	var b strings.Builder
	if err := compared().PrintSummary(&b, "all", []Column{{"a/s", "speed"}, {"none", "none"}, {"µs", "wait"}}); err != nil {
		t.Fatal(err)
	}
	want := `
all   a/s   µs
ours  125   50
slow   62  100
fast  100   40
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestGrid(t *testing.T) {
	r := &Report{Groups: []Group{{Title: "t", Rows: []Row{
		{Name: "plain, one", Runs: []float64{1}}, {Name: "plain, many", Runs: []float64{2}}, {Name: "sealed, many", Runs: []float64{3}},
	}}}}
	var b strings.Builder
	if err := r.PrintGrid(&b, "echo", "t", []string{"plain", "sealed", "none"}, []string{"one", "many"}); err != nil {
		t.Fatal(err)
	}
	want := `
echo    one  many
plain     1     2
sealed    –     3
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
