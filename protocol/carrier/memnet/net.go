// Package memnet is an in-memory internet for tests: hosts, NAT routers and links that delay,
// lose, duplicate and reorder datagrams, under a clock that moves only from event to event.
//
//	          the internet (realm of New)
//	host 198.51.100.1     │ external address
//	                    NAT            NAT behind NAT: carrier grade
//	                      │ its inner realm, with an address space of its own
//	              host 192.168.1.2
//
// A datagram climbs from realm to realm through the NATs above its sender until a realm knows its
// destination, and descends through the NATs below. IPv4 is translated. IPv6 is not: there a NAT is
// a stateful firewall, and hosts' global addresses are known in every realm above them.
//
// There are no goroutines: Step runs one event and the callbacks it leads to. All randomness comes
// from the seed, so that the same calls replay exactly. A Net is for one goroutine. A mistake in the
// set-up, such as one address given twice in a realm, panics: nobody but a test can make it.
package memnet

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Net is one internet. Create it with New.
type Net struct {
	start  time.Time
	now    time.Duration // since start
	queue  queue
	rand   *rand.Rand
	root   *realm
	split  bool
	sides  []Node // that a Split has put on a side
	free   []*packet
	counts [outcomes]uint64
	trace  func(Event)
}

// New returns an empty internet at the given time.
func New(seed uint64, start time.Time) *Net {
	return &Net{
		start: start,
		rand:  rand.New(rand.NewPCG(seed, 0x63756c76657274)),
		root:  newRealm(nil),
	}
}

// Now is the time on the virtual clock.
func (n *Net) Now() time.Time { return n.start.Add(n.now) }

// Step runs the next event, a datagram's hop or a timer, and moves the clock to it; false when
// nothing is left to happen.
func (n *Net) Step() bool {
	for len(n.queue.events) > 0 {
		e := n.queue.pop()
		if e.timer != nil && e.timer.stopped {
			continue
		}
		n.now = e.at
		if e.timer == nil {
			n.proceed(e.packet)
			return true
		}
		e.timer.stopped = true
		e.timer.fn()
		return true
	}
	return false
}

// RunUntil runs everything up to and at t, and leaves the clock there.
func (n *Net) RunUntil(t time.Time) {
	end := t.Sub(n.start)
	for len(n.queue.events) > 0 && n.queue.events[0].at <= end {
		if n.queue.events[0].timer != nil && n.queue.events[0].timer.stopped {
			n.queue.pop()
			continue
		}
		n.Step()
	}
	n.now = max(n.now, end)
}

// RunFor runs everything within d from now.
func (n *Net) RunFor(d time.Duration) { n.RunUntil(n.Now().Add(d)) }

// Timer is a call that is still to come, unless stopped.
type Timer struct {
	fn      func()
	stopped bool
}

// Stop keeps the timer from firing and tells whether that was in time.
func (t *Timer) Stop() bool {
	inTime := !t.stopped
	t.stopped = true
	return inTime
}

// After calls fn once d has passed. Timers belong to no host: one fires also while a host is down.
func (n *Net) After(d time.Duration, fn func()) *Timer {
	t := &Timer{fn: fn}
	n.queue.push(event{at: n.now + max(d, 0), timer: t})
	return t
}

// Event is something that happened to a datagram. Addresses are as seen where it happened; Data is
// valid until the trace function returns.
type Event struct {
	At       time.Time
	What     string // a key of Stats
	From, To netip.AddrPort
	Data     []byte
}

// Trace has every later event reported to fn.
func (n *Net) Trace(fn func(Event)) { n.trace = fn }

// Stats counts what became of datagrams.
func (n *Net) Stats() map[string]uint64 {
	stats := make(map[string]uint64, outcomes)
	for o, count := range n.counts {
		stats[outcomeNames[o]] = count
	}
	return stats
}

type outcome uint8

const (
	sent outcome = iota
	delivered
	duplicated
	lost
	filtered
	noMapping
	noPort
	noHairpin
	noRoute
	noSocket
	whileDown
	whileSplit
	outcomes
)

var outcomeNames = [outcomes]string{
	sent:       "sent",
	delivered:  "delivered",
	duplicated: "duplicated",
	lost:       "lost",
	filtered:   "filtered",
	noMapping:  "no mapping",
	noPort:     "no port left",
	noHairpin:  "no hairpin",
	noRoute:    "no route",
	noSocket:   "no socket",
	whileDown:  "down",
	whileSplit: "split",
}

func (n *Net) note(what outcome, p *packet) {
	n.counts[what]++
	if n.trace != nil {
		n.trace(Event{At: n.Now(), What: outcomeNames[what], From: p.src, To: p.dst, Data: p.data})
	}
}

// end notes a packet's end and takes its memory back.
func (n *Net) end(what outcome, p *packet) {
	n.note(what, p)
	n.free = append(n.free, p)
}
