package discovery

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

var (
	// ErrNotFound is returned when no device on the links of this machine has the MAC.
	ErrNotFound = errors.New("no device with this MAC on the local network")
	// ErrClosed is returned by a Finder that was closed.
	ErrClosed = errors.New("finder is closed")
)

// FinderConfig has a usable zero value.
type FinderConfig struct {
	Rate   int           // addresses asked for a second in a sweep; 200 if zero
	Span   int           // addresses of one prefix that a sweep asks for; 1,024 if zero
	Quiet  time.Duration // how long "not found" stands without a new sweep; 30 s if zero
	Linger time.Duration // how long after the last request answers are awaited; 1 s if zero
	Report func(Alert)   // told what is strange, from the searching goroutine; may be nil
}

// Found is where a device is: at the time of the answer the kernel's neighbour table had that MAC for that address.
type Found struct {
	Addr      netip.Addr
	MAC       MAC
	Interface string
	Index     int
}

// Finder finds devices by MAC. One sweep runs at a time, and all searches learn from it.
type Finder struct {
	host   host
	config FinderConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sweeps chan struct{} // the right to sweep

	mu      sync.Mutex
	closed  bool
	epoch   int // counts resets
	flights map[MAC]*flight
	tracker tracker
	swept   map[MAC]verdict // of whole sweeps
	suspect map[MAC]Found   // where the device did not answer; searched anew once
	covered time.Time       // when the last whole sweep ended
	heard   map[MAC]target  // what the last sweep heard; the kernel's table need not have it
}

// verdict is how a sweep of everything ended for one MAC.
type verdict struct {
	at    time.Time
	found bool // after all, at an address that was distrusted
}

// flight is one search that all who ask for its MAC share.
type flight struct {
	cancel  context.CancelFunc
	waiting int // guarded by Finder.mu
	done    chan struct{}
	found   Found
	err     error
}

// NewFinder makes a Finder; Close it.
func NewFinder(c FinderConfig) *Finder { return newFinder(kernel{}, c) }

func newFinder(h host, c FinderConfig) *Finder {
	c.Rate = orDefault(c.Rate, defaultRate)
	c.Span = orDefault(c.Span, defaultSpan)
	c.Quiet = orDefault(c.Quiet, 30*time.Second)
	c.Linger = orDefault(c.Linger, time.Second)
	f := &Finder{host: h, config: c, sweeps: make(chan struct{}, 1),
		flights: make(map[MAC]*flight), swept: make(map[MAC]verdict), suspect: make(map[MAC]Found)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func orDefault[T int | time.Duration](v, d T) T {
	if v <= 0 {
		return d
	}
	return v
}

// Find returns where the device is now. A cached address is looked up in the kernel's table before it is returned. Without an
// entry there the network is swept, which takes seconds; ErrNotFound then stands for FinderConfig.Quiet unless the table learns better.
func (f *Finder) Find(ctx context.Context, mac MAC) (Found, error) {
	if !mac.IsUnicast() {
		return Found{}, ErrMAC
	}
	if err := ctx.Err(); err != nil {
		return Found{}, err
	}
	fl, err := f.join(mac)
	if err != nil {
		return Found{}, err
	}
	defer f.leave(mac, fl)
	select {
	case <-fl.done:
		return fl.found, fl.err
	case <-ctx.Done():
		return Found{}, ctx.Err()
	}
}

// Distrust says that nothing answered at a found address: the next Find sweeps before it returns that address again.
func (f *Finder) Distrust(at Found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.swept[at.MAC]; ok && time.Since(v.at) < f.config.Quiet {
		return // searched just now: a device that is off is not swept for at every attempt
	}
	if len(f.suspect) < maxTracked {
		f.suspect[at.MAC] = at
	}
}

// Reset forgets all addresses and failures: call it when the network changed.
func (f *Finder) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
	f.tracker = tracker{}
	clear(f.swept)
	clear(f.suspect)
	clear(f.heard)
	f.covered = time.Time{}
}

// Close ends all searches and waits for them.
func (f *Finder) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
	return nil
}

func (f *Finder) join(mac MAC) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	if fl := f.flights[mac]; fl != nil {
		fl.waiting++
		return fl, nil
	}
	ctx, cancel := context.WithCancel(f.ctx)
	fl := &flight{cancel: cancel, waiting: 1, done: make(chan struct{})}
	f.flights[mac] = fl
	f.wg.Go(func() {
		defer cancel()
		fl.found, fl.err = f.search(ctx, mac)
		if f.ctx.Err() != nil {
			fl.found, fl.err = Found{}, ErrClosed
		}
		f.mu.Lock()
		if f.flights[mac] == fl {
			delete(f.flights, mac)
		}
		f.mu.Unlock()
		close(fl.done)
	})
	return fl, nil
}

// leave ends a search that nobody waits for any more; who asks next starts a new one.
func (f *Finder) leave(mac MAC, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting--; fl.waiting == 0 {
		fl.cancel()
		if f.flights[mac] == fl {
			delete(f.flights, mac)
		}
	}
}

// report hands alerts on, without a lock held.
func (f *Finder) report(alerts []Alert) {
	if f.config.Report == nil {
		return
	}
	for _, a := range alerts {
		f.config.Report(a)
	}
}

// acquire takes a place, or gives up with ctx.
func acquire(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
