package tunnels

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc"
)

const plain = "plain TCP"

// Bench is the device and the nodes between it and the load.
type Bench struct {
	data     []byte
	children []*proc.Child
	to       ways
}

// Start starts the nodes and opens the tunnels.
func Start(ctx context.Context) (*Bench, error) {
	b := &Bench{data: pattern()}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bench) start(ctx context.Context) (err error) {
	var at places
	for _, p := range []struct {
		part string
		into any
	}{{partDevice, &at.Device}, {partRelay, &at.Relay}, {partAgent, &at.Agent}, {partUser, &b.to}} {
		c, err := proc.Start(ctx, p.part, at, p.into)
		if err != nil {
			return err
		}
		b.children = append(b.children, c)
	}
	b.to[plain] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Device)
	return nil
}

// Groups are the tables of tunnels.
func (b *Bench) Groups() []measure.Group {
	bulk := measure.Group{
		Title: "tunnel throughput",
		Notes: "load, user-node, super-node, tunnel-node and device are a process each, all on the same cores; one way, to the device",
	}
	names := []string{plain, directLink, directBulk, relayedLink, relayedBulk}
	for _, streams := range []int{1, 8} {
		label := func(name string) string {
			if streams == 1 {
				return name + ", 1 stream"
			}
			return fmt.Sprintf("%s, %d streams", name, streams)
		}
		for _, n := range names {
			bulk.Cells = append(bulk.Cells, b.cell(label(n), "MB/s", n, label(plain), func(ctx context.Context, to netip.AddrPort, d time.Duration) (measure.Sample, error) {
				return throughput(ctx, to, streams, b.data, d)
			}))
		}
	}
	conns := measure.Group{Title: "new connections, 32 at once", Notes: "each with a byte there and back through to the device"}
	echo := measure.Group{Title: "echo of 64 bytes, median", Notes: "less is better"}
	for _, n := range []string{plain, directBulk, relayedBulk} {
		conns.Cells = append(conns.Cells, b.cell(n, "/s", n, plain, func(ctx context.Context, to netip.AddrPort, d time.Duration) (measure.Sample, error) {
			return connections(ctx, to, 32, d)
		}))
		echo.Cells = append(echo.Cells, b.cell(n, "µs", n, plain, func(ctx context.Context, to netip.AddrPort, d time.Duration) (measure.Sample, error) {
			return latency(ctx, to, b.data, d/2)
		}))
	}
	return []measure.Group{bulk, conns, echo}
}

// cell is one that works through the way of that name.
func (b *Bench) cell(name, unit, way, reference string, run func(context.Context, netip.AddrPort, time.Duration) (measure.Sample, error)) measure.Cell {
	to := b.to[way]
	if name == reference {
		reference = ""
	}
	return measure.Cell{Name: name, Unit: unit, Reference: reference, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
		return run(ctx, to, d)
	}}
}

// Close ends the processes: who asks before who answers.
func (b *Bench) Close() error {
	var errs []error
	for i := len(b.children) - 1; i >= 0; i-- {
		errs = append(errs, b.children[i].Close())
	}
	return errors.Join(errs...)
}
