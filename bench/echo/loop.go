package echo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"culvert/bench/measure"
)

// ErrNoGSO says that the system does not cut and join UDP packets.
var ErrNoGSO = errors.New("this system has no UDP GSO and GRO")

// serve answers until the socket is closed.
func serve(s *socket, respond responder) error {
	for {
		l, err := s.read()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range l {
			if err := l[i].each(respond); err != nil {
				return err
			}
		}
		if err := s.write(l); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

const (
	window = 64
	// With GSO a window of one buffer would have load and server wait for each other.
	windowGSO = 16 * segments
	// silence is after how long without an answer what is under way counts as lost; silentMost is when nobody is there.
	silence    = 250 * time.Millisecond
	silentMost = 2 * time.Minute
)

// load is a window of requests.
type load struct {
	s    *socket
	to   netip.AddrPort
	a    Asker
	n    uint64 // the last request's number
	done uint64
}

// Drive keeps a window of requests under way for d and returns the answers a second.
func Drive(ctx context.Context, to netip.AddrPort, way Way, a Asker, d time.Duration) (sample measure.Sample, err error) {
	s, err := listen(way)
	if err != nil {
		return sample, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	l := load{s: s, to: to, a: a}
	if err := l.fill(); err != nil {
		return sample, err
	}
	start := time.Now()
	now, heard := start, start
	for end := start.Add(d); now.Before(end) || l.done == 0; now = time.Now() {
		if err := ctx.Err(); err != nil {
			return sample, err
		}
		if err := s.deadline(now.Add(silence)); err != nil {
			return sample, err
		}
		got, err := l.turn()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Since(heard) > silentMost {
				return sample, fmt.Errorf("nothing is answered at %s", to)
			}
			sample.Lost += l.n - l.done - sample.Lost
			if err := l.fill(); err != nil {
				return sample, err
			}
			continue
		}
		if err != nil {
			return sample, err
		}
		if heard = now; got == 0 {
			return sample, errBytes
		}
	}
	sample.Value = float64(l.done) / now.Sub(start).Seconds()
	return sample, nil
}

// fill sends a window of requests.
func (l *load) fill() error {
	packets, parcels := 1, window
	if l.s.way == GSO {
		packets, parcels = segments, windowGSO/segments
	}
	for range parcels {
		p := parcel{addr: l.to, segment: Size}
		for range packets {
			p.buf = append(p.buf, make([]byte, Size)...)
			b := p.buf[len(p.buf)-Size:]
			p.buf = p.buf[:len(p.buf)-Size+l.ask(b)]
		}
		if err := l.s.write([]parcel{p}); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) ask(b []byte) int {
	l.n++
	return l.a.Ask(b, l.n)
}

// turn takes a batch of answers and asks anew for each in its buffer.
func (l *load) turn() (got int, err error) {
	ps, err := l.s.read()
	if err != nil {
		return 0, err
	}
	for i := range ps {
		p := &ps[i]
		if p.segment == len(p.buf) { // an answer by itself may have another length than the request
			if err := l.a.Check(p.buf); err != nil {
				return got, err
			}
			got++
			n := l.ask(p.buf[:max(len(p.buf), min(cap(p.buf), Size))])
			p.buf, p.segment = p.buf[:n], n
			continue
		}
		if err := p.each(func(b []byte) error {
			if err := l.a.Check(b); err != nil {
				return err
			}
			got++
			l.ask(b)
			return nil
		}); err != nil {
			return got, err
		}
	}
	l.done += uint64(got)
	return got, l.s.write(ps)
}
