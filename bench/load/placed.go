package load

import (
	"context"
	"errors"
	"os"
	"time"

	"culvert/bench/measure"
)

// EchoPlaced is the echo with the processes placed; Echo leaves that to the system.
const EchoPlaced = "echo of 64 bytes, over all placements on two cores"

const placedNotes = "less is better; the mean, over all ways to put each process of the way and the device on one of two cores, of the medians;\n" +
	"the load stays on the first. Two processes between make 8 placements, three 16, none 2; no process has both cores at once.\n" +
	"In “" + Echo + "” the system places and moves them, and that decides more than what they do"

// PlacedTable is the echo as the mean over all ways to put the processes of a way, and the device, on two cores; the load stays
// on the first. To wake a process on another core that sleeps costs many times what to wake it on the same one does, most of all
// in a virtual machine, and the system chooses by what happens to sleep: without this the figure tells of that more than of
// anything else. No cells where the system lets nobody place, or has one core.
func PlacedTable(ways []Way, device Proc) measure.Group {
	g := measure.Group{Title: EchoPlaced, Notes: placedNotes}
	first, second, ok := twoCores()
	if !ok {
		return g
	}
	for _, w := range ways {
		c := measure.Cell{Name: w.Name, Unit: "µs", Less: true, Run: func(ctx context.Context, d time.Duration) (s measure.Sample, err error) {
			others := append([]Proc{device}, w.Procs...)
			all := 1 << len(others)
			self := Proc{Name: "load", PID: os.Getpid()}
			defer func() {
				for _, p := range append(others, self) {
					err = errors.Join(err, p.release())
				}
			}()
			if err := self.bind(first); err != nil {
				return s, err
			}
			for placement := range all {
				for i, p := range others {
					core := first
					if placement>>i&1 == 1 {
						core = second
					}
					if err := p.bind(core); err != nil {
						return s, err
					}
				}
				one, err := Latency(ctx, w.To, d/time.Duration(2*all))
				if err != nil {
					return s, err
				}
				s.Value += one.Value / float64(all)
			}
			return s, nil
		}}
		if w.Name != ways[0].Name {
			c.Reference = ways[0].Name
		}
		g.Cells = append(g.Cells, c)
	}
	return g
}
