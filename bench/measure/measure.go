// Package measure runs cells in turn, so that what is compared was measured side by side: A B C A B C …, never A A B B.
package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"culvert/bench/report"
)

// Sample is what one run of a cell gave.
type Sample struct {
	Value float64
	Lost  uint64 // requests without an answer
}

// Cell is one thing to measure.
type Cell struct {
	Name      string
	Unit      string
	Reference string // name of the cell of the same group that it is compared with
	Less      bool   // is better
	// Run works for about so long. An error ends the whole run: a figure of work that was not done is worse than none.
	Run func(ctx context.Context, d time.Duration) (Sample, error)
}

// Group is a table to be.
type Group struct {
	Title string
	Notes string
	Cells []Cell
	// Steady says that the figures hardly differ between rounds: one is enough for a quick look.
	Steady bool
}

var errNothing = errors.New("nothing was done")

// Run measures every cell once a round.
func Run(ctx context.Context, g Group, rounds int, d time.Duration) (report.Group, error) {
	res := report.Group{Title: g.Title, Notes: g.Notes}
	for _, c := range g.Cells {
		res.Rows = append(res.Rows, report.Row{Name: c.Name, Unit: c.Unit, Reference: c.Reference, Less: c.Less})
	}
	for range rounds {
		for i, c := range g.Cells {
			if err := ctx.Err(); err != nil {
				return res, err
			}
			s, err := c.Run(ctx, d)
			if err != nil {
				return res, fmt.Errorf("%s, %s: %w", g.Title, c.Name, err)
			}
			if !(s.Value > 0) {
				return res, fmt.Errorf("%s, %s: %w", g.Title, c.Name, errNothing)
			}
			res.Rows[i].Runs = append(res.Rows[i].Runs, s.Value)
			res.Rows[i].Lost += s.Lost
		}
	}
	return res, nil
}
