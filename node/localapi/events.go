package localapi

import (
	"context"
	"sync"
)

// Default bounds of an event hub.
const (
	DefaultQueue     = 256
	DefaultListeners = 64
)

// Events hands what happens to whoever listens. Publishing never waits.
type Events struct {
	queue     int
	listeners int
	joined    chan struct{} // holds one token after somebody has begun to listen

	mu       sync.Mutex
	sequence uint64
	open     map[*Subscription]struct{}
}

// Subscription is one listener's bounded queue.
type Subscription struct {
	events *Events
	wake   chan struct{} // holds one token while there is something to read

	mu      sync.Mutex
	waiting []Event
	dropped int
}

// NewEvents makes a hub for so many listeners with so many waiting events each.
func NewEvents(queue, listeners int) *Events {
	return &Events{queue: max(queue, 1), listeners: max(listeners, 1), joined: make(chan struct{}, 1), open: map[*Subscription]struct{}{}}
}

// Publish numbers the event and queues it for every listener. Where a queue is full its oldest event is dropped.
func (e *Events) Publish(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sequence++
	ev.Sequence = e.sequence
	for s := range e.open {
		s.put(ev, e.queue)
	}
}

// Subscribe starts listening. It fails with code limit where there are too many listeners.
func (e *Events) Subscribe() (*Subscription, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.open) >= e.listeners {
		return nil, Errorf(Limit, "close another program that listens", "%d programs listen to events already", len(e.open))
	}
	s := &Subscription{events: e, wake: make(chan struct{}, 1)}
	e.open[s] = struct{}{}
	select {
	case e.joined <- struct{}{}:
	default:
	}
	return s, nil
}

// Joined holds one token after somebody has begun to listen, for the one who makes events only while somebody does.
func (e *Events) Joined() <-chan struct{} { return e.joined }

// Listeners is how many listen now.
func (e *Events) Listeners() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.open)
}

// Close stops listening.
func (s *Subscription) Close() {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	delete(s.events.open, s)
}

func (s *Subscription) put(ev Event, queue int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= queue {
		s.waiting = append(s.waiting[:0], s.waiting[1:]...)
		s.dropped++
	}
	s.waiting = append(s.waiting, ev)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next waits for the next event. After a loss it returns one of type [Dropped] before going on.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if ev, ok := s.take(); ok {
			return ev, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (s *Subscription) take() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return Event{}, false
	}
	ev := s.waiting[0]
	if s.dropped > 0 {
		marker := Event{Sequence: ev.Sequence - 1, Type: Dropped, Time: ev.Time, Dropped: s.dropped}
		s.dropped = 0
		return marker, true
	}
	s.waiting = append(s.waiting[:0], s.waiting[1:]...)
	return ev, true
}
