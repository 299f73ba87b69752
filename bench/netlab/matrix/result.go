package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"culvert/bench/report"
	"culvert/tunnel"
)

// Run is one tunnel that was opened, or was to be.
type Run struct {
	Round       int          `json:"round"`
	Up          bool         `json:"up"`              // bytes came back, by whatever route
	First       tunnel.Route `json:"first,omitempty"` // the route when open returned
	Route       tunnel.Route `json:"route,omitempty"` // the route at the end
	FirstByteMS float64      `json:"first_byte_ms,omitempty"`
	BestMS      float64      `json:"best_ms,omitempty"` // until the expected route, or a better one, was in use; 0 if never
	Error       string       `json:"error,omitempty"`
	Receipt     string       `json:"receipt,omitempty"` // where the expected route was not taken, or late: what tunnels --json says
}

// Met is a pair's runs.
type Met struct {
	Pair
	Expected tunnel.Route `json:"expected"`
	Runs     []Run        `json:"runs"`
}

// Check is what netcheck called a site.
type Check struct {
	Kind     Kind   `json:"kind"`
	Side     string `json:"side"` // user, device
	Expected string `json:"expected"`
	Got      string `json:"got,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Problem is a site whose agent never came up, and why.
type Problem struct {
	Kind  Kind   `json:"kind"`
	Side  string `json:"side"`
	Error string `json:"error"`
}

// Results are one whole run of the matrix.
type Results struct {
	Date     time.Time      `json:"date"`
	Culvert  string         `json:"culvert"`
	Machine  report.Machine `json:"machine"`
	Rounds   int            `json:"rounds"`
	Seconds  float64        `json:"seconds"` // all of it took
	Demands  []Demand       `json:"demands"`
	Netcheck []Check        `json:"netcheck"`
	Problems []Problem      `json:"problems,omitempty"`
	Pairs    []*Met         `json:"pairs"`
}

// Add keeps a run of a pair.
func (r *Results) Add(p Pair, run Run) {
	for _, m := range r.Pairs {
		if m.Pair == p {
			m.Runs = append(m.Runs, run)
			return
		}
	}
	r.Pairs = append(r.Pairs, &Met{Pair: p, Expected: p.Expect(), Runs: []Run{run}})
}

// Write keeps the results as a file in dir, whose names sort by date, and
// returns its path.
func (r *Results) Write(dir string) (string, error) {
	path := filepath.Join(dir, "netlab-"+report.FileName(r.Date))
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return "", fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write the results: %w", err)
	}
	return path, nil
}

// rank orders routes, the best lowest; what is no route is the worst.
func rank(r tunnel.Route) int {
	for i, o := range tunnel.Routes() {
		if r == o {
			return i
		}
	}
	return len(tunnel.Routes())
}

// asGood tells whether a route is at least as good as the expected one.
func asGood(got, expected tunnel.Route) bool { return rank(got) <= rank(expected) }
