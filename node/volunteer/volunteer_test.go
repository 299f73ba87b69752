package volunteer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const settle = 5 * time.Minute

func addrs(l ...string) (out []netip.AddrPort) {
	for _, s := range l {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

// world is a node, others and an operator around a machine, under a virtual clock.
type world struct {
	now     time.Time
	m       *Machine
	view    View
	reached func(netip.AddrPort) bool // others come through
	policy  func() Outcome            // Taken, or why not
	arrives time.Duration             // of a new map at the node
	maps    []func() (time.Time, func())
	log     []string
	counts  map[Act]int
}

func newWorld(mode Mode) *world {
	w := &world{
		now: start, m: New(Config{Mode: mode, Settle: settle, Rand: rand.New(rand.NewPCG(1, 2))}), counts: make(map[Act]int),
		reached: func(netip.AddrPort) bool { return true }, policy: func() Outcome { return Taken }, arrives: 2 * time.Second,
	}
	w.view.Serving = mode == Asked
	return w
}

// run lets time go on. The operator takes in what can be reached.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); ; {
		for len(w.maps) > 0 {
			at, f := w.maps[0]()
			if at.After(w.now) {
				break
			}
			f()
			w.maps = w.maps[1:]
		}
		act, next := w.m.Step(w.now, w.view)
		w.counts[act]++
		switch act {
		case Prove:
			w.m.Proved(w.now, w.through(w.view.Addresses))
		case Offer, Withdraw:
			offered := w.through(w.m.Offered())
			o := w.policy()
			switch {
			case act == Withdraw:
				o, offered = Taken, nil
			case o == Taken && len(offered) == 0:
				o = Unproven
			}
			w.log = append(w.log, fmt.Sprintf("%v: %v %v", w.now.Sub(start), act, o))
			listed := w.view.Listed
			if o == Taken {
				w.view.Serving = w.view.Serving || act == Offer
				w.mapIn(w.arrives, func() { w.view.Listed, w.view.Map = act == Offer, offered })
			}
			w.m.Answered(w.now, o, listed)
		case Retire:
			w.view.Serving = false
		case Wait:
			if !next.After(w.now) {
				panic("a machine that waits for the past")
			}
			if len(w.maps) > 0 {
				if at, _ := w.maps[0](); at.Before(next) {
					next = at
				}
			}
			if next.After(end) {
				w.now = end
				return
			}
			w.now = next
			continue
		}
		w.now = w.now.Add(10 * time.Millisecond)
	}
}

func (w *world) through(l []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(l), func(a netip.AddrPort) bool { return !w.reached(a) })
}

func (w *world) mapIn(d time.Duration, f func()) {
	at := w.now.Add(d)
	w.maps = append(w.maps, func() (time.Time, func()) { return at, f })
}

func TestVolunteersOnceItIsReachable(t *testing.T) {
	w := newWorld(Auto)
	w.run(time.Hour)
	if w.counts[Prove]+w.counts[Offer] > 0 {
		t.Fatal("a node without a public address has itself proved or offered")
	}
	w.view.Addresses = addrs("198.51.100.7:7700")
	w.run(settle - time.Second)
	if w.counts[Prove]+w.counts[Offer] > 0 {
		t.Fatal("proved or offered before the address has settled")
	}
	w.run(2 * time.Minute)
	if w.counts[Prove] != 1 || w.counts[Offer] != 1 || !w.view.Listed || !w.view.Serving {
		t.Fatalf("%v, listed %v: %v", w.counts, w.view.Listed, w.log)
	}
	w.run(24 * time.Hour)
	if w.counts[Prove] != 1 || w.counts[Offer] != 1 || w.counts[Retire] != 0 {
		t.Errorf("a day in the map: %v", w.counts)
	}
}

// One whose address is not reached is tried ever more seldom, and never offered.
func TestUnreachedIsNotOffered(t *testing.T) {
	w := newWorld(Auto)
	w.view.Addresses = addrs("198.51.100.7:7700")
	w.reached = func(netip.AddrPort) bool { return false }
	w.run(24 * time.Hour)
	if w.counts[Offer] > 0 || w.view.Serving || w.counts[Prove] < 8 || w.counts[Prove] > 24 {
		t.Errorf("in a day: %v", w.counts)
	}
	w.reached = func(netip.AddrPort) bool { return true }
	w.run(3*time.Hour + time.Minute)
	if !w.view.Listed {
		t.Errorf("opened three hours ago, and not listed: %v", w.counts)
	}
}

// A changed address is in the map within a minute, for a volunteer and for one that was asked.
func TestChangedAddressIsFollowed(t *testing.T) {
	for _, mode := range []Mode{Auto, Asked} {
		for seed := range uint64(50) {
			w := newWorld(mode)
			w.m.cfg.Rand = rand.New(rand.NewPCG(seed, 1))
			w.view.Addresses = addrs("198.51.100.7:7700")
			w.run(10*time.Minute + time.Duration(seed)*time.Second)
			if !w.view.Listed {
				t.Fatalf("mode %d: not listed at first", mode)
			}
			now := addrs("203.0.113.9:7700", "[2001:db8::9]:7700")
			w.view.Addresses = now
			if seed%2 == 1 { // the first try meets an operator that is busy
				first := true
				w.policy = func() Outcome {
					if first {
						first = false
						return Silence
					}
					return Taken
				}
			}
			w.run(time.Minute)
			if !same(w.view.Map, now) || w.counts[Retire] > 0 {
				t.Fatalf("mode %d, seed %d: a minute later the map has %v: %v", mode, seed, w.view.Map, w.log)
			}
		}
	}
}

// An address that nobody reaches beside one that works is offered again now and then, not all the time.
func TestHalfReachableIsLeftAlone(t *testing.T) {
	w := newWorld(Asked)
	w.view.Addresses = addrs("198.51.100.7:7700", "[2001:db8::9]:7700")
	w.reached = func(a netip.AddrPort) bool { return a.Addr().Is4() }
	w.run(5 * time.Hour)
	if !w.view.Listed || w.counts[Offer] > 25 {
		t.Errorf("offered %d times in five hours", w.counts[Offer])
	}
}

// A live change of policy takes a volunteer out, and back in when it is undone; meanwhile it neither serves nor pesters the operator.
func TestPolicyIsFollowed(t *testing.T) {
	w := newWorld(Auto)
	w.view.Addresses = addrs("198.51.100.7:7700")
	w.run(10 * time.Minute)
	w.policy = func() Outcome { return Refused }
	w.view.Listed, w.view.Map = false, nil
	w.run(time.Minute)
	if w.view.Serving {
		t.Fatalf("still serves: %v", w.log)
	}
	before := w.counts[Offer]
	w.run(24 * time.Hour)
	if n := w.counts[Offer] - before; n < 15 || n > 40 {
		t.Errorf("refused %d times in a day", n)
	}
	w.policy = func() Outcome { return Taken }
	w.run(2 * time.Hour)
	if !w.view.Listed || !w.view.Serving {
		t.Errorf("not back: %v", w.log[len(w.log)-3:])
	}
}

// One that was told to serve goes on serving and asking whatever the operator says; one that is to serve no more withdraws.
func TestAskedAndNever(t *testing.T) {
	w := newWorld(Asked)
	w.view.Addresses = addrs("10.0.0.1:7700")
	w.policy = func() Outcome { return Refused }
	w.run(time.Hour)
	if !w.view.Serving || w.counts[Retire] > 0 || w.counts[Offer] < 12 || w.counts[Prove] > 0 {
		t.Errorf("asked: %v", w.counts)
	}
	w = newWorld(Never)
	w.view.Addresses = addrs("198.51.100.7:7700")
	w.run(time.Hour)
	if len(w.log) > 0 {
		t.Errorf("never: %v", w.log)
	}
	w.view.Listed = true
	w.run(3 * time.Minute)
	if w.view.Listed || w.counts[Withdraw] != 1 {
		t.Errorf("never, in the map: %v", w.counts)
	}
}
