package messages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"culvert/bench/measure"
	"culvert/protocol/carrier"
)

const (
	batch = 64
	room  = 1500
	// silence is after how long without any datagram the load looks for what was lost.
	silence = 250 * time.Millisecond
	// firstLimit is by how much a run may be longer when nothing at all was answered in time.
	firstLimit = 2 * time.Minute
	// warmLimit is for how long the first answers may take.
	warmLimit = 2 * time.Minute
)

// giveUp is after how long without any datagram the load believes that something was lost. Where nothing may be, tests wait longer.
var giveUp = 2 * time.Second

// drain is for how long answers are waited for after a run.
func drain() time.Duration { return giveUp + time.Second }

// asker makes requests and recognises their answers. One loop uses it.
type asker interface {
	// ask puts one more request into the outbox.
	ask(now time.Time) error
	// answer takes one datagram and reports how many requests it completed. Bytes that are no answer are an error.
	answer(now time.Time, m *carrier.Message) (int, error)
	// overdue is called after so long without any datagram and reports how many requests will never be answered.
	overdue(now time.Time, silent time.Duration) int
	// abandon forgets what is under way: an answer that comes later counts for nothing.
	abandon()
	// flush writes the outbox.
	flush(c carrier.Conn) error
}

// buffers are n messages to read into.
func buffers(n int) []carrier.Message {
	ms := make([]carrier.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, room)
	}
	return ms
}

// drive keeps window requests under way for d and returns the answers a second.
func drive(ctx context.Context, conn conn, a asker, window int, d time.Duration) (measure.Sample, error) {
	l := newLoad(conn, a, window)
	defer a.abandon()
	start := time.Now()
	now, end := start, start.Add(d)
	for now.Before(end) || l.done == 0 && now.Before(end.Add(firstLimit)) {
		if err := l.step(ctx, now, window, min(silence, max(end.Sub(now), 0)+time.Millisecond)); err != nil {
			return measure.Sample{}, err
		}
		now = time.Now()
	}
	s := measure.Sample{Value: float64(l.done) / now.Sub(start).Seconds()}
	for deadline := now.Add(drain()); l.open > 0 && now.Before(deadline); now = time.Now() {
		if err := l.step(ctx, now, 0, silence); err != nil {
			return s, err
		}
	}
	s.Lost = uint64(l.lost + l.open)
	return s, nil
}

// warm has n requests answered before anything is measured: sessions are open then, certificates known, records in memory.
func warm(ctx context.Context, conn conn, a asker, n int) error {
	l := newLoad(conn, a, batch)
	defer a.abandon()
	now := time.Now()
	for deadline := now.Add(warmLimit); l.done < n; now = time.Now() {
		if now.After(deadline) {
			return fmt.Errorf("%d of %d requests answered, %d lost, in %v", l.done, n, l.lost, warmLimit)
		}
		if err := l.step(ctx, now, min(batch, n-l.done), silence); err != nil {
			return err
		}
	}
	return nil
}

type load struct {
	conn conn
	a    asker
	ms   []carrier.Message

	open int // requests under way
	done int
	lost int

	heard time.Time // when the last datagram came
}

// newLoad takes answers fewer at a time than there are requests under way, so that the server has work meanwhile.
func newLoad(conn conn, a asker, window int) *load {
	return &load{conn: conn, a: a, ms: buffers(min(max(window/4, 1), batch)), heard: time.Now()}
}

// step fills the window, writes, and takes what has been answered.
func (l *load) step(ctx context.Context, now time.Time, window int, wait time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for ; l.open < window; l.open++ {
		if err := l.a.ask(now); err != nil {
			return err
		}
	}
	return l.exchange(now, wait)
}

// exchange writes what is to be written and takes one batch of answers.
func (l *load) exchange(now time.Time, wait time.Duration) error {
	if err := l.a.flush(l.conn); err != nil {
		return err
	}
	if err := l.conn.Socket().SetReadDeadline(now.Add(wait)); err != nil {
		return fmt.Errorf("wait for answers: %w", err)
	}
	n, err := l.conn.ReadBatch(l.ms)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if wait == silence {
			now = time.Now()
			gone := l.a.overdue(now, now.Sub(l.heard))
			l.open, l.lost = l.open-gone, l.lost+gone
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read answers: %w", err)
	}
	now = time.Now()
	l.heard = now
	for i := range l.ms[:n] {
		k, err := l.a.answer(now, &l.ms[i])
		if err != nil {
			return err
		}
		l.open, l.done = l.open-k, l.done+k
	}
	return nil
}

// outbox is a batch of datagrams in buffers that are reused.
type outbox struct{ ms []carrier.Message }

// next is a buffer for one more datagram.
func (o *outbox) next() *carrier.Message {
	if len(o.ms) < cap(o.ms) {
		o.ms = o.ms[:len(o.ms)+1]
	} else {
		o.ms = append(o.ms, carrier.Message{})
	}
	m := &o.ms[len(o.ms)-1]
	if m.Buf == nil {
		m.Buf = make([]byte, room)
	}
	return m
}

func (o *outbox) flush(c carrier.Conn) error {
	if len(o.ms) == 0 {
		return nil
	}
	_, err := c.WriteBatch(o.ms)
	o.ms = o.ms[:0]
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
