package localapi

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestEventsDropOldestWithMarker(t *testing.T) {
	e := NewEvents(3, 2)
	e.Publish(Event{Type: DeviceFound}) // nobody listens yet
	s, err := e.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := time.Unix(1, 0)
	for range 5 {
		e.Publish(Event{Type: DeviceLost, Time: at})
	}
	want := []Event{
		{Sequence: 3, Type: Dropped, Time: at, Dropped: 2},
		{Sequence: 4, Type: DeviceLost, Time: at}, {Sequence: 5, Type: DeviceLost, Time: at}, {Sequence: 6, Type: DeviceLost, Time: at},
	}
	for _, w := range want {
		if got, err := s.Next(t.Context()); err != nil || got.Sequence != w.Sequence || got.Type != w.Type || got.Dropped != w.Dropped || got.Time != w.Time {
			t.Errorf("got %+v, %v, want %+v", got, err, w)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an empty queue: %v", err)
	}
}

func TestEventsWakeAndLimit(t *testing.T) {
	e := NewEvents(0, 1) // at least one
	s, err := e.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	var limit *Error
	if _, err := e.Subscribe(); !errors.As(err, &limit) || limit.Code != Limit {
		t.Errorf("one too many: %v", err)
	}
	got := make(chan Event)
	go func() {
		ev, _ := s.Next(t.Context())
		got <- ev
	}()
	e.Publish(Event{Type: TunnelUp})
	if ev := <-got; ev.Type != TunnelUp {
		t.Errorf("got %+v", ev)
	}
	s.Close()
	s.Close()
	again, err := e.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
