package main

import (
	"context"
	"io"
	"slices"

	"culvert/bench/measure"
	"culvert/bench/messages"
	"culvert/bench/peers"
	"culvert/bench/report"
	"culvert/bench/tunnels"
)

// growths are how cost grows; each package that has such cells has its line here.
func growths(o *options) []measure.Growth {
	return []measure.Growth{
		messages.PeersGrowth(o.size.Peers),
		messages.RecordsGrowth(10 * o.size.Records),
		tunnels.Growth(o.crowd),
	}
}

func runGrowths(ctx context.Context, o *options, _ *peers.Peers, r *report.Report, w io.Writer) error {
	for _, g := range growths(o) {
		at, wanted := g.At, true
		g.At = func(ctx context.Context, size int) ([]measure.GrowthCell, func() error, error) {
			cells, end, err := at(ctx, size)
			cells = slices.DeleteFunc(cells, func(c measure.GrowthCell) bool { return !o.wants(g.Title, c.Name) })
			wanted = len(cells) > 0
			return cells, end, err
		}
		s, err := measure.RunGrowth(ctx, g, o.rounds, o.cell)
		if err != nil {
			return err
		}
		if !wanted {
			continue
		}
		r.Series = append(r.Series, s)
		r.Claims = append(r.Claims, s.Claims()...)
		if err := s.Print(w); err != nil {
			return err
		}
	}
	return nil
}
