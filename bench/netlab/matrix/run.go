//go:build linux

package matrix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/mesh"
	"culvert/bench/report"
	"culvert/tunnel"
)

const (
	// oneRun is how long a pair may take in all.
	oneRun = 3 * time.Minute
	// upgrade is how long the expected route is waited for: long enough for a second try at punching. How soon it came is judged apart.
	upgrade = 45 * time.Second
	// look is how often the tunnel's route is asked for.
	look = 100 * time.Millisecond
	// checked bytes go through each tunnel once it has its route.
	checked = 256 << 10
)

// Measure opens tunnels for so many rounds of batches and returns what it saw.
// What fails is in the results; an error is the end of ctx or of the lab.
func (w *World) Measure(ctx context.Context, program string, rounds int, batches [][]Pair) (*Results, error) {
	began := time.Now()
	r := &Results{Date: began.UTC(), Culvert: report.Version(ctx, program), Machine: report.ThisMachine(ctx), Rounds: rounds}
	r.Problems = w.Problems()
	for round := range rounds {
		for i, batch := range batches {
			if err := w.forget(ctx); err != nil {
				return nil, err
			}
			runs := make([]Run, len(batch))
			var g errgroup.Group
			g.SetLimit(atOnce)
			for n, p := range batch {
				g.Go(func() error {
					runs[n] = w.try(ctx, p, uint64(round))
					runs[n].Round = round + 1
					return ctx.Err()
				})
			}
			if err := g.Wait(); err != nil {
				return nil, err
			}
			for n, p := range batch {
				r.Add(p, runs[n])
			}
			w.log("round %d, batch %d of %d ends after %s", round+1, i+1, len(batches), time.Since(began).Round(time.Second))
		}
	}
	r.Netcheck = w.Netcheck(ctx)
	r.Seconds = time.Since(began).Seconds()
	r.Demands = r.Judge()
	return r, ctx.Err()
}

// try opens one tunnel.
func (w *World) try(ctx context.Context, p Pair, seed uint64) (run Run) {
	ctx, cancel := context.WithTimeout(ctx, oneRun)
	defer cancel()
	user, dev := w.users[p.User], w.devices[p.Device]
	if err := errors.Join(problemOf(user), problemOf(dev)); err != nil {
		return Run{Error: err.Error()}
	}
	began := time.Now()
	t, err := user.agent.Open(ctx, dev.String(), device.JetDirectPort)
	if err != nil {
		return Run{Error: err.Error()}
	}
	run.First, run.Route = tunnel.Route(t.Route), tunnel.Route(t.Route)
	defer func() {
		if err := user.agent.Close(ctx, t); err != nil && run.Error == "" {
			run.Error = fmt.Sprintf("close: %v", err)
		}
	}()
	fail := func(err error) Run {
		run.Up, run.Error = false, err.Error()
		run.Receipt = receipt(ctx, user.agent)
		return run
	}
	first, err := dial(ctx, t)
	if err != nil {
		return fail(err)
	}
	defer first.Close()
	if err := echo(first, []byte{byte(seed)}); err != nil {
		return fail(fmt.Errorf("first byte: %w", err))
	}
	run.Up, run.FirstByteMS = true, millisecondsSince(began)
	if err := w.awaitRoute(ctx, user.agent, t, p.Expect(), began, &run); err != nil {
		return fail(err)
	}
	second, err := dial(ctx, t)
	if err != nil {
		return fail(fmt.Errorf("a second connection, by %s: %w", run.Route, err))
	}
	defer second.Close()
	if err := echo(second, random(seed)); err != nil {
		return fail(fmt.Errorf("a second connection, by %s: %w", run.Route, err))
	}
	if err := echo(first, []byte("still here")); err != nil {
		return fail(fmt.Errorf("the first connection, at its end: %w", err))
	}
	return run
}

func problemOf(p *place) error {
	if p.problem != nil {
		return fmt.Errorf("%s: %w", p, p.problem)
	}
	return nil
}

// awaitRoute looks at the tunnel until it takes the expected route or a better
// one, or has had the time for it.
func (w *World) awaitRoute(ctx context.Context, a *mesh.Agent, t mesh.Tunnel, expected tunnel.Route, began time.Time, run *Run) error {
	if asGood(run.First, expected) {
		run.BestMS = run.FirstByteMS
		return nil
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		all, err := a.Tunnels(ctx)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.ID == t.ID {
				run.Route = tunnel.Route(o.Route)
			}
		}
		if asGood(run.Route, expected) {
			if run.BestMS = millisecondsSince(began); !within(run.BestMS, bestWithin) {
				run.Receipt = receipt(ctx, a)
			}
			return nil
		}
		if time.Since(began) > upgrade {
			run.Receipt = receipt(ctx, a)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// receipt is what the agent says of its tunnels.
func receipt(ctx context.Context, a *mesh.Agent) string {
	text, err := a.RawTunnels(ctx)
	if err != nil {
		return err.Error()
	}
	return text
}

func dial(ctx context.Context, t mesh.Tunnel) (net.Conn, error) {
	conn, err := t.Dial(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return conn, conn.SetDeadline(deadline)
}

// echo sends data and compares what comes back.
func echo(conn net.Conn, data []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		sent <- err
	}()
	back := make([]byte, len(data))
	_, err := io.ReadFull(conn, back)
	if err != nil {
		conn.Close()
	}
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return errors.New("other bytes come back than were sent")
	}
	return nil
}

func random(seed uint64) []byte {
	b := make([]byte, checked)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func millisecondsSince(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }
