// Package report holds what a run of the benchmarks measured, and prints it for people and for machines.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Report is one whole run.
type Report struct {
	Date    time.Time `json:"date"`
	Culvert string    `json:"culvert"` // version of the binary built from the same tree
	Machine Machine   `json:"machine"`
	Rounds  int       `json:"rounds"`
	Seconds float64   `json:"seconds_per_cell"`
	Took    float64   `json:"seconds_in_all,omitempty"`
	// Peers are the versions of what is compared with; Missing says in words what is not installed here.
	Peers   map[string]string `json:"peers,omitempty"`
	Missing []string          `json:"missing,omitempty"`
	Claims  []Claim           `json:"claims,omitempty"`
	Worse   []Change          `json:"worse,omitempty"` // than in the run before
	Groups  []Group           `json:"groups"`
	Series  []Series          `json:"series,omitempty"`
}

// Group is a table: rows that were measured in turn.
type Group struct {
	Title string `json:"title"`
	Notes string `json:"notes,omitempty"`
	Rows  []Row  `json:"rows"`
}

// Row is one cell's results.
type Row struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"`
	Runs      []float64 `json:"runs"` // one a round
	Reference string    `json:"reference,omitempty"`
	Less      bool      `json:"less_is_better,omitempty"`
	Lost      uint64    `json:"lost,omitempty"` // requests without an answer, in all rounds
}

// MarshalJSON adds what follows from the runs.
func (r Row) MarshalJSON() ([]byte, error) {
	type plain Row
	return json.Marshal(struct {
		plain
		Median float64 `json:"median"`
		Min    float64 `json:"min"`
		Max    float64 `json:"max"`
	}{plain(r), orZero(Median(r.Runs)), orZero(r.least()), orZero(r.most())})
}

// orZero is for JSON, which has no NaN.
func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

func (r Row) least() float64 {
	if len(r.Runs) == 0 {
		return math.NaN()
	}
	return slices.Min(r.Runs)
}

func (r Row) most() float64 {
	if len(r.Runs) == 0 {
		return math.NaN()
	}
	return slices.Max(r.Runs)
}

// Ratio is r beside its reference in g, NaN where it has none.
func (g Group) Ratio(r Row) float64 {
	return Median(g.ratios(r))
}

func (g Group) ratios(r Row) []float64 {
	if o := g.Row(r.Reference); o != nil && r.Reference != "" {
		return Ratios(r.Runs, o.Runs)
	}
	return nil
}

// Row is the one of that name, nil where there is none.
func (g Group) Row(name string) *Row {
	for i := range g.Rows {
		if g.Rows[i].Name == name {
			return &g.Rows[i]
		}
	}
	return nil
}

// Group is the one of that title, nil where there is none.
func (r *Report) Group(title string) *Group {
	for i := range r.Groups {
		if r.Groups[i].Title == title {
			return &r.Groups[i]
		}
	}
	return nil
}

// MarshalJSON adds each row's ratio.
func (g Group) MarshalJSON() ([]byte, error) {
	type plain Group
	ratios := make(map[string]float64)
	for _, r := range g.Rows {
		if v := g.Ratio(r); !math.IsNaN(v) {
			ratios[r.Name] = v
		}
	}
	return json.Marshal(struct {
		plain
		Ratios map[string]float64 `json:"ratios"`
	}{plain(g), ratios})
}

// Write writes the report to a file as JSON, and makes its folder where there is none.
func (r *Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// FileName is where a run's results are kept: names sort by date.
func FileName(date time.Time) string { return date.UTC().Format("2006-01-02T150405Z") + ".json" }
