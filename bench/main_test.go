package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/bench/peers"
	"culvert/bench/proc/proctest"
	"culvert/bench/report"
	"culvert/bench/tunnels"
)

func TestMain(m *testing.M) { proctest.Main(m, parts()) }

// What is placed keeps its scheduler, and what is measured next does not begin with that of one core.
func TestSchedulersStay(t *testing.T) {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("no build info")
	}
	want := debug.BuildSetting{Key: "DefaultGODEBUG", Value: "updatemaxprocs=0"}
	if !slices.ContainsFunc(b.Settings, func(s debug.BuildSetting) bool {
		return s.Key == want.Key && slices.Contains(strings.Split(s.Value, ","), want.Value)
	}) {
		t.Errorf("%v", b.Settings)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-cell", "-1s"}, {"more"}, {"-records", "1"}, {"-sections", "other"}, {"-only", "("}} {
		var out strings.Builder
		if err := command(t.Context(), args, &out); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// The whole command, with cells of some milliseconds: every table is printed and kept, drawn and listed. Only what needs no program
// of Debian's runs here.
func TestWholeRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	args := []string{"-alone", "-rounds", "1", "-cell", "5ms", "-peers", "8", "-records", "40", "-idle", "10", "-crowd", "30", "-results", dir}
	var out strings.Builder
	if err := command(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	r, err := report.Read(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range r.Groups {
		if !strings.Contains(out.String(), g.Title) {
			t.Errorf("%s is not printed", g.Title)
		}
		for _, row := range g.Rows {
			if report.Median(row.Runs) <= 0 || !strings.Contains(out.String(), row.Name) {
				t.Errorf("%s, %s: %v", g.Title, row.Name, row.Runs)
			}
		}
	}
	if len(r.Groups) < 5 {
		t.Errorf("%d tables", len(r.Groups))
	}
	if len(r.Series) != len(growths(&options{})) {
		t.Errorf("%d series", len(r.Series))
	}
	for _, s := range r.Series {
		for _, l := range s.Lines {
			if math.IsNaN(l.Growth()) || !strings.Contains(out.String(), l.Name) {
				t.Errorf("%s, %s: %+v", s.Title, l.Name, l.Points)
			}
		}
	}
	pictures, err := filepath.Glob(filepath.Join(strings.TrimSuffix(files[0], ".json"), "*.svg"))
	if err != nil || len(pictures) < len(r.Groups) {
		t.Errorf("%d pictures of %d tables, %v", len(pictures), len(r.Groups), err)
	}
	if index, err := os.ReadFile(filepath.Join(dir, report.IndexName)); err != nil || !strings.Contains(string(index), filepath.Base(files[0])) {
		t.Errorf("%s, %v", index, err)
	}
	claimed(t, r)
}

// claimed checks that what is wanted of cells that are in this run was measured: a claim on a cell with another name says nothing.
func claimed(t *testing.T, r *report.Report) {
	t.Helper()
	if len(r.Claims) < 10 {
		t.Errorf("%d claims", len(r.Claims))
	}
	for _, c := range r.Claims {
		debian := len(c.To) == 1 && c.To[0] == peers.SSH
		if c = c.Judge(r); math.IsNaN(c.Got) != debian {
			t.Errorf("%s: row %q of table %q, beside %q: %v", c.Text, c.Row, c.In, c.To, c.Got)
		}
	}
}

// A quick run leaves cells out, unless they are asked for otherwise, and keeps nothing.
func TestQuickRun(t *testing.T) {
	o, err := parse([]string{"-quick", "-cell", "5ms"})
	if err != nil {
		t.Fatal(err)
	}
	if o.whole() || o.cell != 5*time.Millisecond || o.rounds != 3 || o.sections[sectionGrowth] {
		t.Errorf("%+v", o)
	}
	for cell, want := range map[string]bool{peers.QUIC: false, peers.Yamux: false, peers.GoTLS: true, peers.SSH: true, tunnels.Direct: true, tunnels.DirectLink: false} {
		if o.wants("table", cell) != want {
			t.Errorf("%s: %v", cell, !want)
		}
	}
}

// One cell alone, with a profile of every process: what README tells.
func TestProfileOfACell(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	args := []string{"-alone", "-rounds", "1", "-cell", "5ms", "-peers", "8", "-records", "40", "-sections", "messages",
		"-only", "GetNode", "-profile", dir, "-results", dir}
	if err := command(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "GetNode") || strings.Contains(out.String(), "culvert Ping") {
		t.Errorf("cells:\n%s", out.String())
	}
	for _, name := range []string{"load", "messages-node"} {
		for _, kind := range []string{".cpu", ".heap"} {
			if i, err := os.Stat(filepath.Join(dir, name+kind)); err != nil || i.Size() == 0 {
				t.Errorf("%s%s: %v", name, kind, err)
			}
		}
	}
	if l, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(l) > 0 {
		t.Error("a run of one cell is kept")
	}
}
