package tunnels

import (
	"context"
	"errors"
	"time"

	"culvert/bench/measure"
)

// FullCrowd is how many tunnels stand at once at the end of a whole series.
const FullCrowd = 10_000

// Growth is how cost grows with the number of tunnels that stand, relayed, with a connection each: from one to most.
func Growth(most int) measure.Growth {
	var sizes []int
	for n := 1; n < most; n *= 10 {
		sizes = append(sizes, n)
	}
	sizes = append(sizes, most)
	return measure.Growth{
		Title: "tunnels that stand",
		Notes: "relayed by one super-node to one tunnel-node, from three user-nodes, each tunnel with a local port and a connection that has answered; " +
			"memory and descriptors are those of all nodes' processes, for each tunnel",
		X: "tunnels", Sizes: sizes, At: growthAt,
	}
}

// fresh is how many tunnels are opened, used and closed again beside those that stand.
const fresh = 96

func growthAt(ctx context.Context, size int) ([]measure.GrowthCell, func() error, error) {
	c, err := StartCrowd(ctx)
	if err != nil {
		return nil, nil, err
	}
	before, err := c.Nodes(ctx)
	if err == nil {
		_, err = c.Grow(ctx, size)
	}
	if err == nil {
		err = c.Ask(ctx)
	}
	var after []Node
	if err == nil {
		after, err = c.Nodes(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	var bytes, files float64
	for i, n := range after {
		bytes += float64(n.RSS - before[i].RSS)
		files += float64(n.Descriptors - before[i].Descriptors)
	}
	each := func(v float64) func(context.Context, time.Duration) (measure.Sample, error) {
		return func(context.Context, time.Duration) (measure.Sample, error) {
			return measure.Sample{Value: max(v/float64(size), 1e-3)}, nil // a page may have been given back meanwhile
		}
	}
	more := func(ctx context.Context, what func(Grown) float64) (s measure.Sample, err error) {
		g, err := c.Grow(ctx, fresh)
		if err != nil {
			return s, err
		}
		return measure.Sample{Value: what(g)}, c.Shrink(ctx, fresh)
	}
	cell := func(name, unit string, within float64, run func(context.Context, time.Duration) (measure.Sample, error)) measure.GrowthCell {
		return measure.GrowthCell{Cell: measure.Cell{Name: name, Unit: unit, Less: true, Run: run}, Within: within}
	}
	return []measure.GrowthCell{
		cell("echo of 64 bytes", "µs", 0, func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			v, err := c.Echo(ctx, d/2)
			return measure.Sample{Value: v}, err
		}),
		cell("open a tunnel, 16 at once", "ms", 0, func(ctx context.Context, _ time.Duration) (measure.Sample, error) {
			return more(ctx, func(g Grown) float64 { return g.Open })
		}),
		cell("connect and first answer, 32 at once", "ms", 0, func(ctx context.Context, _ time.Duration) (measure.Sample, error) {
			return more(ctx, func(g Grown) float64 { return g.First / 1e3 })
		}),
		cell("memory", "KB", 0, each(bytes/1e3)),
		cell("descriptors", "descriptors", 0, each(files)),
	}, c.Close, nil
}
