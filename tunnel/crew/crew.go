// Package crew keeps the goroutines of short tasks for the next ones. A new goroutine begins with a small stack, which grows in
// several steps, each a copy, until it holds the long chain of calls from a connection to its socket; for connections that
// live for a moment that and the goroutine's own beginning and end are a twentieth of what they cost.
package crew

import "sync"

// most is how many goroutines without a task are kept.
const most = 32

// Crew runs tasks, each in a goroutine of its own. The zero Crew is ready.
type Crew struct {
	mu      sync.Mutex
	running int           // goroutines; a WaitGroup must not begin anew while somebody waits, which a task at the end may do
	ended   sync.Cond     // one of them has, after Close
	idle    []chan func() // of goroutines without a task; the latest is taken first
	least   int           // of idle since the last Rest
	closed  bool
}

// Go runs fn.
func (c *Crew) Go(fn func()) {
	c.mu.Lock()
	n := len(c.idle) - 1
	if n < 0 {
		c.running++
		c.mu.Unlock()
		go c.work(fn)
		return
	}
	worker := c.idle[n]
	c.idle = c.idle[:n]
	c.least = min(c.least, n)
	c.mu.Unlock()
	worker <- fn
}

// work runs fn and what comes then, until there is nothing for too long.
func (c *Crew) work(fn func()) {
	defer c.leave()
	next := make(chan func(), 1)
	for fn != nil {
		fn()
		fn = nil // what it held is held no more
		if !c.keep(next) {
			return
		}
		fn = <-next
	}
}

func (c *Crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.ended.Broadcast()
}

func (c *Crew) keep(worker chan func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= most {
		return false
	}
	c.idle = append(c.idle, worker)
	return true
}

// Rest ends the goroutines that had nothing to do since the last Rest. It is to be called now and then.
func (c *Crew) Rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dismissLocked(c.least)
	c.least = len(c.idle)
}

// dismissLocked ends the n goroutines that have waited for longest. Their channels have room.
func (c *Crew) dismissLocked(n int) {
	for _, worker := range c.idle[:n] {
		worker <- nil
	}
	c.idle = append(c.idle[:0], c.idle[n:]...)
	clear(c.idle[len(c.idle):cap(c.idle)])
}

// Close waits for all tasks to end, and keeps no goroutine. A task that begins later belongs to whoever began it.
func (c *Crew) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.least = true, 0
	c.dismissLocked(len(c.idle))
	if c.ended.L == nil {
		c.ended.L = &c.mu
	}
	for c.running > 0 {
		c.ended.Wait()
	}
}
