package main

import (
	"context"
	"io"

	"culvert/bench/measure"
	"culvert/bench/report"
)

// growths are how cost grows; each package that has such cells has its line here.
func growths(options) []measure.Growth {
	return nil
}

func runGrowths(ctx context.Context, o options, r *report.Report, w io.Writer) error {
	for _, g := range growths(o) {
		s, err := measure.RunGrowth(ctx, g, o.rounds, o.cell)
		if err != nil {
			return err
		}
		r.Series = append(r.Series, s)
		if err := s.Print(w); err != nil {
			return err
		}
	}
	return nil
}
