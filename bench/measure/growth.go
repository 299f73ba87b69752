package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"culvert/bench/report"
)

// Growth is a series to be: the same cells at rising sizes.
type Growth struct {
	Title string
	Notes string
	X     string // what grows: “records”, “peers”, “tunnels”
	Sizes []int  // rising
	// Together has the worlds of all sizes stand at once, and the sizes take turns within a round as cells do: what slows the machine
	// for some seconds slows all. Otherwise one world after the other is built, measured in all rounds and closed.
	Together bool
	// At builds the world of one size. Its cells are the lines of the series: the same names at every size. Close may be nil.
	At func(ctx context.Context, size int) (cells []GrowthCell, close func() error, err error)
}

// GrowthCell is a cell of a series.
type GrowthCell struct {
	Cell
	Within float64 // by how much it may be worse at the largest size than at the smallest; 0 where nothing is promised
}

// Decades are sizes from least to most, each ten times the one before but for the last.
func Decades(least, most int) (l []int) {
	for n := least; n < most; n *= 10 {
		l = append(l, n)
	}
	return append(l, most)
}

// world is what stands for one size.
type world struct {
	at    int // index of the size
	cells []GrowthCell
	close func() error
}

// RunGrowth measures a series.
func RunGrowth(ctx context.Context, g Growth, rounds int, d time.Duration) (s report.Series, err error) {
	s = report.Series{Title: g.Title, Notes: g.Notes, X: g.X}
	var worlds []world
	closeAll := func() (err error) {
		for _, w := range worlds {
			if w.close != nil {
				err = errors.Join(err, w.close())
			}
		}
		worlds = nil
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	for i, size := range g.Sizes {
		cells, end, err := g.At(ctx, size)
		if err != nil {
			return s, fmt.Errorf("%s, %d %s: %w", g.Title, size, g.X, err)
		}
		worlds = append(worlds, world{at: i, cells: cells, close: end})
		if g.Together && i < len(g.Sizes)-1 {
			continue
		}
		if err := g.rounds(ctx, &s, worlds, rounds, d); err != nil {
			return s, err
		}
		if err := closeAll(); err != nil {
			return s, fmt.Errorf("%s, %d %s: %w", g.Title, size, g.X, err)
		}
	}
	return s, nil
}

// rounds runs all cells of the worlds in turn.
func (g Growth) rounds(ctx context.Context, s *report.Series, worlds []world, rounds int, d time.Duration) error {
	for range rounds {
		for _, w := range worlds {
			for i, c := range w.cells {
				if err := ctx.Err(); err != nil {
					return err
				}
				v, err := c.Run(ctx, d)
				if err == nil && !(v.Value > 0) {
					err = errNothing
				}
				if err != nil {
					return fmt.Errorf("%s, %s, %d %s: %w", g.Title, c.Name, g.Sizes[w.at], g.X, err)
				}
				if i >= len(s.Lines) {
					s.Lines = append(s.Lines, report.Line{Name: c.Name, Unit: c.Unit, Within: c.Within, Less: c.Less})
				}
				l := &s.Lines[i]
				if l.Name != c.Name {
					return fmt.Errorf("%s: %s is a cell at some sizes only", g.Title, c.Name)
				}
				if w.at >= len(l.Points) {
					l.Points = append(l.Points, report.Point{Size: g.Sizes[w.at]})
				}
				l.Points[w.at].Runs = append(l.Points[w.at].Runs, v.Value)
			}
		}
	}
	return nil
}
