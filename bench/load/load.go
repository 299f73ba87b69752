package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/bench/measure"
	"culvert/bench/report"
	"culvert/protocol/rawtcp"
)

// grace is by how much a run may be longer than it should before it counts as hung.
const grace = 2 * time.Minute

func dial(ctx context.Context, to netip.AddrPort, limit time.Time) (*net.TCPConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(limit); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.(*net.TCPConn), nil
}

// Throughput sends for d on so many streams and returns the megabytes a second that arrived, as the device counted them.
func Throughput(ctx context.Context, to netip.AddrPort, streams int, d time.Duration) (measure.Sample, error) {
	start := time.Now()
	end := start.Add(d)
	var total atomic.Uint64
	err := Each(streams, func(int) error {
		n, err := push(ctx, to, end)
		total.Add(n)
		return err
	})
	return measure.Sample{Value: float64(total.Load()) / 1e6 / time.Since(start).Seconds()}, err
}

// Each runs fn so many times at once, numbered, and returns what failed.
func Each(n int, fn func(int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

var errCount = errors.New("the device got another number of bytes than were sent")

// push sends the pattern until end, and the last block whole; the device says how much arrived.
func push(ctx context.Context, to netip.AddrPort, end time.Time) (uint64, error) {
	c, err := dial(ctx, to, end.Add(grace))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{modeSink}); err != nil {
		return 0, err
	}
	var sent uint64
	for sent == 0 || time.Now().Before(end) {
		n, err := c.Write(pattern)
		sent += uint64(n)
		if err != nil {
			return 0, fmt.Errorf("after %d bytes: %w", sent, err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	var count [8]byte
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return 0, fmt.Errorf("no count after %d bytes: %w", sent, err)
	}
	if got := binary.BigEndian.Uint64(count[:]); got != sent {
		return got, fmt.Errorf("%w: %d of %d", errCount, got, sent)
	}
	return sent, nil
}

// Connections opens, uses and closes connections for d, so many at once, and returns how many a second.
func Connections(ctx context.Context, to netip.AddrPort, atOnce int, d time.Duration) (measure.Sample, error) {
	start := time.Now()
	end := start.Add(d)
	var total atomic.Int64
	err := Each(atOnce, func(int) error {
		for first := true; first || time.Now().Before(end); first = false {
			if err := greet(ctx, to, end.Add(grace)); err != nil {
				return err
			}
			total.Add(1)
		}
		return nil
	})
	return measure.Sample{Value: float64(total.Load()) / time.Since(start).Seconds()}, err
}

var errEcho = errors.New("the device sent other bytes back")

// greet is one connection with a byte each way.
func greet(ctx context.Context, to netip.AddrPort, limit time.Time) error {
	c, err := dial(ctx, to, limit)
	if err != nil {
		return err
	}
	defer c.Close()
	return Ask(c)
}

// Ask has the device echo a byte, and from then on whatever comes.
func Ask(c net.Conn) error {
	if _, err := c.Write([]byte{modeEcho, 42}); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if b[0] != 42 {
		return errEcho
	}
	return nil
}

// Latency sends 64 bytes back and forth on one connection for d and returns the median in microseconds. Here and in the device the
// system calls are made raw: else Go's monitor wakes beside every other of them, on a core that the tunnel's processes need.
func Latency(ctx context.Context, to netip.AddrPort, d time.Duration) (measure.Sample, error) {
	c, err := dial(ctx, to, time.Now().Add(d+grace))
	if err != nil {
		return measure.Sample{}, err
	}
	defer c.Close()
	r := rawtcp.New(c)
	if err := Ask(r); err != nil {
		return measure.Sample{}, err
	}
	var l []float64
	end := time.Now().Add(d)
	for t := time.Now(); len(l) == 0 || t.Before(end); {
		if err := Again(r); err != nil {
			return measure.Sample{}, err
		}
		now := time.Now()
		l = append(l, float64(now.Sub(t).Nanoseconds())/1e3)
		t = now
	}
	return measure.Sample{Value: report.Median(l)}, nil
}

// Again sends 64 bytes there and back on a connection that has asked for it.
func Again(c net.Conn) error {
	var back [64]byte
	word := pattern[:len(back)]
	if _, err := c.Write(word); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, back[:]); err != nil {
		return err
	}
	if !bytes.Equal(back[:], word) {
		return errEcho
	}
	return nil
}
