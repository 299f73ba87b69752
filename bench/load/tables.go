package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"culvert/bench/measure"
)

// Size says how much is asked of the ways.
type Size struct {
	Streams int // of the second table of throughput
	AtOnce  int // new connections
	Idle    int // connections that stand
}

// Full is the size of a real run.
var Full = Size{Streams: 8, AtOnce: 32, Idle: 1000}

// Titles of the tables; %d is filled in from the size.
const (
	OneStream  = "tunnel throughput, 1 stream"
	Streams    = "tunnel throughput, %d streams"
	CPU        = "CPU time of the tunnel's processes, 1 stream"
	NewConns   = "new connections, %d at once"
	Echo       = "echo of 64 bytes, median"
	IdleMemory = "memory per idle connection, of %d"
)

// Tables are the tables that ways are measured by; the first way is the reference of the others.
func Tables(ways []Way, size Size) []measure.Group {
	one := measure.Group{Title: OneStream, Notes: "one way, to the device; load, processes of the tunnel and device share the cores;\n" +
		"a culvert node takes Reno for connections that stay within its machine, as all here do; the others take the system's congestion control.\n" +
		"It listens at 127.0.0.1 here, where a connection has Reno from its first packet; one that listens everywhere changes it a moment later"}
	many := measure.Group{Title: fmt.Sprintf(Streams, size.Streams)}
	cpu := measure.Group{Title: CPU, Steady: true, Notes: "less is better; of all processes between load and device, user and system"}
	conns := measure.Group{Title: fmt.Sprintf(NewConns, size.AtOnce), Notes: "each with a byte there and back through to the device"}
	echo := measure.Group{Title: Echo, Notes: "less is better; the system chooses who runs on which core"}
	idle := measure.Group{Title: fmt.Sprintf(IdleMemory, size.Idle), Steady: true, Notes: "less is better; growth of the resident memory of all processes between load and device, freshly started"}
	for _, w := range ways {
		ref := func(name string) string {
			if name == w.Name {
				return ""
			}
			return name
		}
		first := ref(ways[0].Name)
		one.Cells = append(one.Cells, measure.Cell{Name: w.Name, Unit: "MB/s", Reference: first, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			return Throughput(ctx, w.To, 1, d)
		}})
		many.Cells = append(many.Cells, measure.Cell{Name: w.Name, Unit: "MB/s", Reference: first, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			return Throughput(ctx, w.To, size.Streams, d)
		}})
		conns.Cells = append(conns.Cells, measure.Cell{Name: w.Name, Unit: "/s", Reference: first, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			return Connections(ctx, w.To, size.AtOnce, d)
		}})
		echo.Cells = append(echo.Cells, measure.Cell{Name: w.Name, Unit: "µs", Less: true, Reference: first, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			return Latency(ctx, w.To, d/2)
		}})
		if _, err := Using(w.Procs); err != nil || len(w.Procs) == 0 {
			continue
		}
		cpu.Cells = append(cpu.Cells, CPUCell(w))
		if w.Fresh != nil {
			idle.Cells = append(idle.Cells, IdleCell(w, size.Idle))
		}
	}
	l := []measure.Group{one, many}
	if len(cpu.Cells) > 0 {
		l = append(l, cpu)
	}
	l = append(l, conns, echo)
	if len(idle.Cells) > 0 {
		l = append(l, idle)
	}
	return l
}

// CPUCell measures what CPU time a way's processes need for a gigabyte.
func CPUCell(w Way) measure.Cell {
	return measure.Cell{Name: w.Name, Unit: "s/GB", Less: true, Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
		before, err := Using(w.Procs)
		if err != nil {
			return measure.Sample{}, err
		}
		start := time.Now()
		s, err := Throughput(ctx, w.To, 1, d)
		if err != nil {
			return s, err
		}
		gigabytes := s.Value / 1e3 * time.Since(start).Seconds()
		after, err := Using(w.Procs)
		return measure.Sample{Value: max((after.CPU-before.CPU), tick).Seconds() / gigabytes}, err
	}}
}

// IdleCell measures by how much a way's processes grow with n connections that stand and do nothing, in kilobytes each.
func IdleCell(w Way, n int) measure.Cell {
	return measure.Cell{Name: w.Name, Unit: "KB", Less: true, Run: func(ctx context.Context, _ time.Duration) (s measure.Sample, err error) {
		fresh, end, err := w.Fresh(ctx)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, end()) }()
		// What the first connections bring into memory once and for all is no cost of a connection.
		if _, err := Connections(ctx, fresh.To, 1, 10*time.Millisecond); err != nil {
			return s, err
		}
		before, err := Using(fresh.Procs)
		if err != nil {
			return s, err
		}
		conns, err := Stand(ctx, fresh.To, n)
		defer func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}()
		if err != nil {
			return s, err
		}
		after, err := Using(fresh.Procs)
		// Growth by nothing, in a run of a few connections, is shown as next to nothing.
		s.Value = max(float64(after.RSS-before.RSS), 1) / 1e3 / float64(n)
		return s, err
	}}
}

// standAtOnce is how many are opened at once by Stand.
const standAtOnce = 16

// Stand opens n connections, has each answer once, and leaves them open; those that were opened are returned also with an error.
func Stand(ctx context.Context, to netip.AddrPort, n int) ([]net.Conn, error) {
	l := make([]net.Conn, n)
	limit := time.Now().Add(grace)
	err := Each(min(n, standAtOnce), func(i int) error {
		for ; i < n; i += standAtOnce {
			c, err := dial(ctx, to, limit)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			l[i] = c
			if err := Ask(c); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
		}
		return nil
	})
	var open []net.Conn
	for _, c := range l {
		if c != nil {
			open = append(open, c)
		}
	}
	return open, err
}
