package tunnel

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

func TestPatienceEnds(t *testing.T) {
	type key struct{}
	outer, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, 1))
	p := &patience{Context: outer, limit: time.Hour}
	if p.end(); p.Err() != nil || p.timed != nil {
		t.Error("a timer that nobody asked for")
	}
	p = &patience{Context: outer, limit: time.Nanosecond}
	<-p.Done()
	if !errors.Is(p.Err(), context.DeadlineExceeded) {
		t.Errorf("ended with %v", p.Err())
	}
	p.end()
	p = &patience{Context: outer, limit: time.Hour}
	inner, stop := context.WithTimeout(p, time.Hour)
	defer stop()
	if at, ok := p.Deadline(); !ok || time.Until(at) > time.Hour || p.Value(key{}) != 1 {
		t.Error("another deadline or value")
	}
	cancel()
	<-inner.Done()
	if !errors.Is(p.Err(), context.Canceled) {
		t.Errorf("ended with %v", p.Err())
	}
	p.end()
}

func TestBoundedByTheEarlierDeadline(t *testing.T) {
	soon, late := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	if at, ok := (bounded{t.Context(), soon}).Deadline(); !ok || at != soon {
		t.Error("no deadline of its own")
	}
	ctx, cancel := context.WithDeadline(t.Context(), soon)
	defer cancel()
	if at, ok := (bounded{ctx, late}).Deadline(); !ok || at != soon {
		t.Error("later than what it is bounded by")
	}
}

// A dial keeps a deadline for which no timer runs, and says what other time limits say.
func TestDialKeepsABound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := dialTCP(bounded{t.Context(), time.Now().Add(-time.Second)}, to); deviceError(err) != ErrDeviceTimeout {
		t.Errorf("past its bound: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialTCP(bounded{ctx, time.Now().Add(time.Hour)}, to); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	c, err := dialTCP(bounded{t.Context(), time.Now().Add(time.Hour)}, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
