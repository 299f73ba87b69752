// Package volunteer decides when a node offers itself as a super-node, follows its own addresses, and gives up.
//
// A node that was told to serve offers every address that it has, at once and until it is taken in. One that volunteers by
// itself does so when it has had the same public addresses for a while and others have come through to them: a super-node
// dials them, and the operator asks at them before it takes the node in. What the operator's map names is looked at every few
// seconds: a changed address is offered anew without another proof of ours, since minutes matter then and the operator proves
// it anyway. One that is refused, or that nobody reaches, tries again ever more seldom, and does not serve meanwhile.
//
//	                 same addresses for Settle          a super-node came through        the operator took it in
//	looks ──────────────────────────────────▶ Prove ──────────────────────────────▶ Offer ─────────────────────▶ serves
//	  ▲                                         │ nobody did                          │ refused                    │ not in the map, and
//	  └─────────────────────────────────────────┴─────────────────────────────────────┴────────── Retire ◀─────────┘ refused or unreached
//
// Machine is a step machine: it does no I/O, and takes the time and its randomness as arguments.
package volunteer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Mode is what the configuration says.
type Mode byte

const (
	Never Mode = iota // leave the map, if it names this node
	Auto              // where it is reachable
	Asked             // always
)

const (
	// look is how often a listed node looks whether the map has its addresses, lookIdle how often another looks for addresses.
	look     = 10 * time.Second
	lookIdle = time.Minute
	// again is for how long an address that the operator did not reach is not offered anew beside others that it did.
	again = 15 * time.Minute
	// arrival is for how long a new map may take to arrive here.
	arrival = 5 * time.Second
)

// backoff is a growing pause.
type backoff struct{ first, most time.Duration }

var (
	askedPause  = backoff{time.Second, 5 * time.Minute}      // told to serve
	movedPause  = backoff{5 * time.Second, 20 * time.Second} // in the map, with addresses that are no longer so
	silentPause = backoff{10 * time.Second, 10 * time.Minute}
	policyPause = backoff{5 * time.Minute, time.Hour}
	closedPause = backoff{2 * time.Minute, 2 * time.Hour} // nobody comes through
)

// View is what a machine sees.
type View struct {
	Addresses []netip.AddrPort // where others may reach this node
	Listed    bool             // the map names it
	Map       []netip.AddrPort // … at these addresses
	Serving   bool             // it answers as a super-node
}

// Act is what a machine wants done now.
type Act byte

const (
	Wait     Act = iota // nothing until the time that Step names
	Prove               // have others dial the addresses, then Proved
	Offer               // submit Offered to the operator, then Answered
	Retire              // stop serving
	Withdraw            // tell the operator that this node does not serve, then Answered
)

// Outcome is what became of an offer.
type Outcome byte

const (
	Taken    Outcome = iota
	Refused          // by policy
	Unproven         // the operator did not come through
	Silence          // no operator answered, or it was busy
)

// Config of a Machine.
type Config struct {
	Mode   Mode
	Settle time.Duration // for how long the addresses must have been the same, where nobody asked for it
	Rand   *rand.Rand    // for the pauses
}

// Machine is one node's. It is not safe for concurrent use.
type Machine struct {
	cfg       Config
	addresses []netip.AddrPort
	since     time.Time // they have been the same
	proven    []netip.AddrPort
	taken     time.Time // the operator last took them in
	fails     int       // in a row
	due       time.Time // nothing is tried before
	refused   bool      // the last try came to nothing
}

// New makes a machine.
func New(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Offered are the addresses to submit.
func (m *Machine) Offered() []netip.AddrPort {
	if len(m.proven) > 0 {
		return m.proven
	}
	return m.addresses
}

// Refused reports whether the last try came to nothing.
func (m *Machine) Refused() bool { return m.refused }

// Step says what to do at a time, and when to look again though nothing happens.
func (m *Machine) Step(now time.Time, v View) (Act, time.Time) {
	if m.cfg.Mode == Never {
		if v.Listed && !now.Before(m.due) {
			return Withdraw, now
		}
		return Wait, now.Add(lookIdle)
	}
	if !same(m.addresses, v.Addresses) {
		*m = Machine{cfg: m.cfg, addresses: slices.Clone(v.Addresses), since: now}
	}
	if v.Listed && m.current(now, v.Map) {
		m.fails, m.refused, m.due = 0, false, time.Time{}
		return Wait, now.Add(look)
	}
	auto := m.cfg.Mode == Auto
	idle := now.Add(lookIdle)
	if v.Listed || !auto {
		idle = now.Add(look)
	}
	settled := m.since.Add(m.cfg.Settle)
	switch {
	case auto && v.Serving && !v.Listed && (m.refused || len(m.addresses) == 0):
		return Retire, now
	case auto && len(m.addresses) == 0:
		return Wait, idle
	case now.Before(m.due):
		return Wait, earlier(m.due, idle)
	case !auto || v.Listed || len(m.proven) > 0:
		return Offer, now
	case now.Before(settled):
		return Wait, earlier(settled, idle)
	}
	return Prove, now
}

// current reports whether the map has all that is offered, or as much as the operator came through to lately.
func (m *Machine) current(now time.Time, have []netip.AddrPort) bool {
	missing := 0
	for _, a := range m.Offered() {
		if !slices.Contains(have, a) {
			missing++
		}
	}
	return missing == 0 || missing < len(m.Offered()) && !m.taken.IsZero() && now.Sub(m.taken) < again
}

// Proved takes those of the addresses to which others came through.
func (m *Machine) Proved(now time.Time, reached []netip.AddrPort) {
	m.proven = slices.Clone(reached)
	if m.refused = len(reached) == 0; m.refused {
		m.pause(now, closedPause)
		return
	}
	m.fails, m.due = 0, time.Time{}
}

// Answered takes the outcome of an Offer or Withdraw; listed: the map named this node when it was made.
func (m *Machine) Answered(now time.Time, o Outcome, listed bool) {
	m.refused = o == Refused || o == Unproven
	switch {
	case o == Taken:
		m.fails, m.taken = 0, now
		m.due = now.Add(arrival)
	case m.cfg.Mode == Asked:
		m.pause(now, askedPause)
	case listed:
		m.pause(now, movedPause)
	case o == Refused:
		m.pause(now, policyPause)
	case o == Unproven:
		m.proven = nil
		m.pause(now, closedPause)
	default:
		m.pause(now, silentPause)
	}
}

// pause spreads tries, so that those who were refused together do not come back together.
func (m *Machine) pause(now time.Time, b backoff) {
	d := min(b.first<<min(m.fails, 16), b.most)
	m.due = now.Add(d + time.Duration(m.cfg.Rand.Int64N(int64(d/2)+1)))
	m.fails++
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// same compares without order: interfaces are not always listed alike.
func same(a, b []netip.AddrPort) bool {
	in := func(l []netip.AddrPort) func(netip.AddrPort) bool {
		return func(x netip.AddrPort) bool { return !slices.Contains(l, x) }
	}
	return len(a) == len(b) && !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}
