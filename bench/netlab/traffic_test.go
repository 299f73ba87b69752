//go:build linux && netlab

package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"culvert/bench/netlab/mesh"
)

const (
	// every is how often traffic opens a connection.
	every = 100 * time.Millisecond
	// hung is how long a connection may live without an end before it counts as
	// one that hangs: far more than it takes to find a route dead.
	hung = 90 * time.Second
	// small is what a short connection sends and wants back.
	small = 4 << 10
	// beat is how often a long connection says its next number.
	beat = 20 * time.Millisecond
)

// errWrong marks bytes that are not those that were sent, or an orderly end
// before all of them: what no fault may ever do.
var errWrong = errors.New("wrong bytes")

// An outcome is one connection's life.
type outcome struct {
	began, ended time.Time
	err          error
}

func (o outcome) hung() bool { return errors.Is(o.err, context.DeadlineExceeded) }

// Traffic opens a connection to an echoing device every 100 ms, and keeps one
// open that counts; when that breaks, the next one begins to.
type traffic struct {
	tunnel mesh.Tunnel
	enough chan struct{} // closed: no connection more
	cancel context.CancelFunc
	shorts sync.WaitGroup
	longs  sync.WaitGroup

	mu    sync.Mutex
	short []outcome
	long  []outcome // those that have ended
	beat  time.Time // when the latest number came back
}

// startTraffic begins; stop is owed.
func startTraffic(ctx context.Context, tunnel mesh.Tunnel) *traffic {
	t := &traffic{tunnel: tunnel, enough: make(chan struct{})}
	ctx, t.cancel = context.WithCancel(ctx)
	t.shorts.Go(func() { t.opens(ctx) })
	t.longs.Go(func() { t.counts(ctx) })
	return t
}

// stop opens nothing more and waits for the end of what is open: a connection
// that hangs must not get away.
func (t *traffic) stop() {
	select {
	case <-t.enough:
	default:
		close(t.enough)
	}
	t.shorts.Wait()
	t.cancel()
	t.longs.Wait()
}

func (t *traffic) opens(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.enough:
			return
		case <-tick.C:
		}
		t.shorts.Go(func() { t.note(ctx, &t.short, time.Now(), t.ask(ctx, n)) })
	}
}

func (t *traffic) counts(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		t.note(ctx, &t.long, began, t.count(ctx))
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// note keeps what a connection came to, unless it was the test that ended it.
func (t *traffic) note(ctx context.Context, to *[]outcome, began time.Time, err error) {
	if err != nil && ctx.Err() != nil && !errors.Is(err, errWrong) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	*to = append(*to, outcome{began, time.Now(), err})
}

// until has the connection's end come with ctx, or after a time without one.
func until(ctx context.Context, conn net.Conn, limit time.Duration) (stop func()) {
	_ = conn.SetDeadline(time.Now().Add(limit))
	end := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { end() }
}

// deadline says of an error that it was the time limit's.
func deadline(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return err
}

// ask is one short connection: what it says is its own, and must come back.
func (t *traffic) ask(ctx context.Context, n uint64) error {
	conn, err := t.tunnel.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer until(ctx, conn, hung)()
	said, err := io.ReadAll(stream(n, small))
	if err != nil {
		return err
	}
	if _, err := conn.Write(said); err != nil {
		return deadline(err)
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	heard, err := io.ReadAll(conn)
	if string(heard) != string(said[:min(len(heard), len(said))]) || len(heard) > len(said) {
		return fmt.Errorf("%w: %d of connection %d", errWrong, len(heard), n)
	}
	if err == nil && len(heard) < len(said) {
		return fmt.Errorf("%w: connection %d ends in order after %d of %d bytes", errWrong, n, len(heard), len(said))
	}
	return deadline(err)
}

// count is one long connection: number after number, each wanted back in its
// place, until it breaks. Silence for as long as hung counts as a hang.
func (t *traffic) count(ctx context.Context) error {
	conn, err := t.tunnel.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var said, heard [8]byte
	for n := uint64(1); ; n++ {
		binary.BigEndian.PutUint64(said[:], n)
		stop := until(ctx, conn, hung)
		_, err := conn.Write(said[:])
		if err == nil {
			_, err = io.ReadFull(conn, heard[:])
		}
		stop()
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return fmt.Errorf("%w: an orderly end after %d numbers, while this side still talks", errWrong, n-1)
		case err != nil:
			return deadline(err)
		case said != heard:
			return fmt.Errorf("%w: said %d, heard %x", errWrong, n, heard)
		}
		t.mu.Lock()
		t.beat = time.Now()
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// A toll is what a fault cost.
type toll struct {
	recovered time.Duration // until a connection works after which all do; negative: never
	fine      int           // short connections begun since the fault that worked
	failed    int           // and those that ended with an error
	slowest   time.Duration // end of a connection that failed, since its beginning
	broken    int           // long connections that ended with an error
	brokenIn  time.Duration // the first of them, since the fault
	hung      int
	wrong     []error
}

// since reckons up from a moment on. Connections that were open then count.
func (t *traffic) since(fault time.Time) toll {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := toll{recovered: -1, brokenIn: -1}
	lastBad := fault
	judge := func(o outcome) {
		if o.hung() {
			c.hung++
		}
		if errors.Is(o.err, errWrong) {
			c.wrong = append(c.wrong, o.err)
		}
	}
	for _, o := range t.short {
		if o.ended.Before(fault) {
			continue
		}
		judge(o)
		switch {
		case o.err != nil:
			c.failed++
			c.slowest = max(c.slowest, o.ended.Sub(o.began))
			if o.began.After(lastBad) {
				lastBad = o.began
			}
		case !o.began.Before(fault):
			c.fine++
		}
	}
	for _, o := range t.short {
		if o.err == nil && o.began.After(lastBad) {
			if d := o.ended.Sub(fault); c.recovered < 0 || d < c.recovered {
				c.recovered = d
			}
		}
	}
	for _, o := range t.long {
		if o.ended.Before(fault) {
			continue
		}
		judge(o)
		if o.err != nil {
			c.broken++
			if d := o.ended.Sub(fault); c.brokenIn < 0 || d < c.brokenIn {
				c.brokenIn = d
			}
		}
	}
	return c
}

// works reports whether connections begun since a moment have worked, n of
// them, the latest ones without one that failed in between.
func (t *traffic) works(since time.Time, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := 0
	for _, o := range t.short {
		if o.began.Before(since) {
			continue
		}
		if row++; o.err != nil {
			row = 0
		}
	}
	return row >= n
}

// awaitBeat waits until a number has come back since a moment: the long
// connection of before has lived on, or has ended and another one counts.
func (t *traffic) awaitBeat(ctx context.Context, since time.Time) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		t.mu.Lock()
		back := t.beat.After(since)
		t.mu.Unlock()
		if back {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
