package tunnel

import (
	"context"
	"errors"
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
