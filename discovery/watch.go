package discovery

import (
	"context"
	"slices"
	"sync"
	"time"
)

// WatchConfig has a usable zero value.
type WatchConfig struct {
	Settle  time.Duration // quiet time after an event before the gateways are read; 250 ms if zero
	Refresh time.Duration // time between readings without an event; 60 s on Linux, 5 s elsewhere, if zero
}

// Change is a new set of gateways, and how it differs from the last one that was received from Watcher.Changes.
type Change struct {
	Gateways []Gateway
	Difference
}

// macsOnly is how many refreshes in a row without an event read only the gateways' MACs: rules of routing policy have no event.
const macsOnly = 4

// events wakes a watcher. wait blocks until something about the network may have changed, or until Close; a system without events has
// none, and is read at every refresh.
type events interface {
	wait() error
	Close() error
}

// Watcher reads the gateways anew whenever interfaces, addresses or routes change.
type Watcher struct {
	host   host
	events events
	cancel context.CancelFunc
	wake   chan struct{}
	out    chan Change
	done   chan struct{}
	err    error // after done
	once   sync.Once
}

// Watch starts a watcher; its first change is the gateways of now, if only an empty set. Close it.
func Watch(c WatchConfig) (*Watcher, error) {
	e, refresh, err := listen()
	if err != nil {
		return nil, err
	}
	c.Refresh = orDefault(c.Refresh, refresh)
	return newWatcher(kernel{}, e, c), nil
}

func newWatcher(h host, e events, c WatchConfig) *Watcher {
	c.Settle = orDefault(c.Settle, 250*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{host: h, events: e, cancel: cancel, wake: make(chan struct{}, 1), out: make(chan Change, 1), done: make(chan struct{})}
	go w.own(ctx, plan{settle: c.Settle, refresh: orDefault(c.Refresh, time.Minute)})
	return w
}

// Changes gives each new set; one that was not received in time is replaced by the next. It is closed when the watcher ends.
func (w *Watcher) Changes() <-chan Change { return w.out }

// Close ends the watcher and waits for it.
func (w *Watcher) Close() error {
	w.once.Do(w.cancel)
	return w.Wait()
}

// Wait returns when the watcher has ended: nil after Close, else the fault of the system's event source.
func (w *Watcher) Wait() error {
	<-w.done
	return w.err
}

// own runs both goroutines and ends them together.
func (w *Watcher) own(ctx context.Context, p plan) {
	defer close(w.done)
	defer close(w.out)
	var listener sync.WaitGroup
	var fault error
	if w.events != nil {
		listener.Go(func() {
			defer w.cancel()
			fault = w.listen(ctx)
		})
	}
	w.loop(ctx, p)
	w.cancel()
	if w.events != nil {
		_ = w.events.Close() // only to wake the listener
	}
	listener.Wait()
	w.err = fault
}

func (w *Watcher) listen(ctx context.Context) error {
	for {
		if err := w.events.wait(); err != nil {
			if ctx.Err() != nil {
				return nil // woken to end
			}
			return err
		}
		select {
		case w.wake <- struct{}{}:
		default: // one is pending
		}
	}
}

func (w *Watcher) loop(ctx context.Context, p plan) {
	p.event(time.Now())
	var base, now []Gateway // what the receiver has; what is so
	known := false
	var ifs []Interface
	asked := 0 // how often the MACs alone were read since all was
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			p.event(time.Now())
		case <-timer.C:
			var read []Gateway
			var err error
			// Whatever else changes has an event, where there are events; asking the kernel for all its tables is dear.
			if w.events != nil && p.quiet() && known && asked < macsOnly {
				asked++
				read = slices.Clone(now)
				resolve(ctx, w.host, ifs, read)
			} else {
				asked = 0
				ifs, read, err = readGateways(ctx, w.host)
			}
			if err != nil {
				p.result(time.Now(), false)
			} else if ctx.Err() == nil {
				p.result(time.Now(), resolved(read))
				read = carry(now, read)
				if d := compare(now, read); !known || !d.Empty() {
					base = w.offer(base, now, read)
					known = true
				}
				now = read
			}
		}
		timer.Reset(time.Until(p.due))
	}
}

// offer puts the change into the channel, in place of one not received; it returns what the receiver knew before it.
func (w *Watcher) offer(base, before, now []Gateway) []Gateway {
	select {
	case <-w.out:
	default:
		base = before // the last one was received
	}
	w.out <- Change{now, compare(base, now)} // this goroutine alone sends, so there is room
	return base
}
