package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"culvert/bench/proc"
)

func TestMain(m *testing.M) {
	ran, err := proc.Run(parts())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !ran {
		goleak.VerifyTestMain(m)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-cell", "-1s"}, {"more"}, {"-records", "1"}} {
		var out strings.Builder
		if err := command(t.Context(), args, &out); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// The whole command, with cells of some milliseconds: every table is printed and kept.
func TestWholeRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out", "r.json")
	var out strings.Builder
	if err := command(t.Context(), []string{"-rounds", "1", "-cell", "5ms", "-peers", "8", "-records", "40", "-idle", "10", "-json", file}, &out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Groups []struct {
			Title string
			Rows  []struct {
				Name   string
				Median float64
			}
		}
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, g := range r.Groups {
		if !strings.Contains(out.String(), g.Title) {
			t.Errorf("%s is not printed", g.Title)
		}
		for _, row := range g.Rows {
			rows++
			if row.Median <= 0 || !strings.Contains(out.String(), row.Name) {
				t.Errorf("%s, %s: %v", g.Title, row.Name, row.Median)
			}
		}
	}
	if len(r.Groups) != 7 || rows != 37 {
		t.Errorf("%d tables, %d rows", len(r.Groups), rows)
	}
}
