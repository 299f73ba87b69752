package portmap

import (
	"net/netip"
	"slices"
	"time"
)

const (
	maxSites = 4

	checkEvery   = time.Minute
	firstRetry   = 5 * time.Second  // after silence, doubling
	lastRetry    = 5 * time.Minute  // …
	refusedRetry = 30 * time.Second // after a no, doubling up to lastRefused
	lastRefused  = 10 * time.Minute
	missesMax    = 3                // silent checks in a row, after which a router counts as gone
	recheckEvery = 2 * time.Second  // at most
	together     = 2 * time.Second  // ways that are due within it are asked at once, so that the process wakes once
	probeEvery   = 10 * time.Second // at most, where it is others who want it

	firstVerify  = time.Second // after a failure, doubling
	lastVerify   = time.Minute
	unreachedMax = 3 // after which another protocol has its turn, and nobody is sent here any more
)

// machine decides what is asked when, which protocol serves, and what is handed out. It has no clock and does no I/O.
type machine struct {
	port   uint16
	sites  []*site
	leave  []*way // of sites that are gone: what they opened is still to be released
	nextID int
	closed bool
}

// site is one gateway with the protocols asked there.
type site struct {
	gw      Gateway
	ways    []*way
	serving *way // has opened; at most one
	opening *way // is about to
	proof   proof
}

// proof is what is known of the serving way from outside.
type proof struct {
	of        netip.AddrPort // what is being proved: another grant is another matter
	good      bool
	running   bool
	unreached int
	failed    int // in a row, for whatever reason
	due       time.Time
}

// way is one protocol at one gateway.
type way struct {
	id   int
	kind kind
	site *site

	busy   bool      // its client works
	writes bool      // … on what the router holds
	ready  bool      // it answered, and may open
	at     time.Time // since when ready
	due    time.Time // next probe, or next check
	fails  int
	asked  time.Time // last open
	looked time.Time // last time that anything was asked
	again  bool      // open once more as soon as the client is free
	status Status

	held    bool
	grant   grant
	renew   time.Time
	expires time.Time
	release bool // as soon as the client is free
}

// What happens.
type (
	evGateways  struct{ list []Gateway }
	evRecheck   struct{}
	evAnnounced struct{ from netip.Addr } // a router, or who has its address, has something to say
	evTick      struct{}
	evClose     struct{}
	evProbed    struct {
		id       int
		by       string
		external netip.Addr
		err      error
		took     time.Duration
	}
	evOpened struct {
		id    int
		grant grant
		err   error
	}
	evChecked struct {
		id    int
		pulse pulse
		err   error
	}
	evReleased struct{ id int }
	evVerified struct {
		id  int
		of  netip.AddrPort
		err error
	}
)

// What is to be done. do names the way whose client does it.
type action struct {
	do      doing
	id      int
	kind    kind
	gw      Gateway
	grant   grant
	mapping Mapping
}

type doing int

const (
	doProbe doing = iota + 1
	doOpen
	doCheck
	doRelease
	doVerify
	doForget // the client is not needed any more
)

// step takes what happened at now and says what is to be done.
func (m *machine) step(now time.Time, ev any) (out []action) {
	switch ev := ev.(type) {
	case evGateways:
		m.gateways(ev.list)
	case evRecheck:
		m.recheck(now)
	case evAnnounced:
		m.announced(now, ev.from)
	case evClose:
		m.gateways(nil)
		m.closed = true
	case evProbed:
		m.probed(now, ev)
	case evOpened:
		m.opened(now, ev)
	case evChecked:
		m.checked(now, ev)
	case evReleased:
		if w := m.way(ev.id); w != nil {
			w.busy, w.held, w.release, w.grant = false, false, false, grant{}
		}
	case evVerified:
		m.verified(now, ev)
	}
	return m.act(now)
}

// done reports whether everything has been released after evClose.
func (m *machine) done() bool { return m.closed && len(m.leave) == 0 }

func (m *machine) way(id int) *way {
	for _, s := range m.sites {
		for _, w := range s.ways {
			if w.id == id {
				return w
			}
		}
	}
	for _, w := range m.leave {
		if w.id == id {
			return w
		}
	}
	return nil
}

// gateways brings the sites in line with the list.
func (m *machine) gateways(list []Gateway) {
	if m.closed {
		return
	}
	list = list[:min(len(list), maxSites)]
	m.sites = slices.DeleteFunc(m.sites, func(s *site) bool {
		if slices.Contains(list, s.gw) {
			return false
		}
		for _, w := range s.ways {
			w.release, w.again = true, false
			m.leave = append(m.leave, w)
		}
		return true
	})
	for _, g := range list {
		if slices.ContainsFunc(m.sites, func(s *site) bool { return s.gw == g }) {
			continue
		}
		s := &site{gw: g}
		for _, k := range kindsFor(g) {
			m.nextID++
			s.ways = append(s.ways, &way{id: m.nextID, kind: k, site: s,
				status: Status{Gateway: g, Protocol: k.String(), State: Asking}})
		}
		m.sites = append(m.sites, s)
	}
}

// recheck has everything looked at anew: what serves is opened again, what did not answer is asked again.
func (m *machine) recheck(now time.Time) {
	for _, s := range m.sites {
		if w := s.serving; w != nil {
			w.again = true
			continue
		}
		for _, w := range s.ways {
			w.fails = 0
			if soon := w.asked.Add(recheckEvery); w.due.After(soon) {
				w.due = soon
			}
		}
	}
}

// announced has a gateway looked at soon, cheaply.
func (m *machine) announced(now time.Time, from netip.Addr) {
	for _, s := range m.sites {
		if s.gw.Addr != from {
			continue
		}
		for _, w := range s.ways {
			pause := probeEvery
			if s.serving == w {
				pause = recheckEvery
			}
			soon := w.looked.Add(pause)
			if soon.Before(now) {
				soon = now
			}
			if w.due.After(soon) {
				w.due = soon
			}
		}
	}
}

// act says what is due at now.
func (m *machine) act(now time.Time) (out []action) {
	do := func(d doing, w *way) {
		w.looked = now
		w.busy, w.writes = true, d == doOpen || d == doRelease
		out = append(out, action{do: d, id: w.id, kind: w.kind, gw: w.site.gw, grant: w.grant})
	}
	m.leave = slices.DeleteFunc(m.leave, func(w *way) bool {
		switch {
		case w.busy:
			return false
		case w.held:
			do(doRelease, w)
			return false
		}
		out = append(out, action{do: doForget, id: w.id})
		return true
	})
	for _, s := range m.sites {
		// What a gateway gives back that was gone for a moment is the same mapping at the router.
		releasing := slices.ContainsFunc(m.leave, func(w *way) bool { return w.site.gw == s.gw && (w.held || w.busy && w.writes) })
		for _, w := range s.ways {
			if w.release && !w.busy && w.held {
				do(doRelease, w)
			}
			w.release = w.release && w.held
			releasing = releasing || w.release
		}
		if s.serving == nil && s.opening == nil && !releasing {
			s.choose()
			if w := s.opening; w != nil {
				w.asked = now
				do(doOpen, w)
			}
		}
		if w := s.serving; w != nil {
			switch {
			case w.busy:
			case !now.Before(w.renew), w.again && !now.Before(w.asked.Add(recheckEvery)):
				w.asked, w.again = now, false
				do(doOpen, w)
			case !now.Before(w.due):
				do(doCheck, w)
			}
			if p := &s.proof; !p.running && !now.Before(p.due) {
				p.running = true
				out = append(out, action{do: doVerify, id: w.id, mapping: m.mappings(w)[0]})
			}
			continue
		}
		waits := func(w *way) bool { return !w.busy && !w.ready && !w.release }
		soon := now
		if slices.ContainsFunc(s.ways, func(w *way) bool { return waits(w) && !now.Before(w.due) }) {
			soon = now.Add(together)
		}
		for _, w := range s.ways {
			if waits(w) && !soon.Before(w.due) {
				w.asked = now
				do(doProbe, w)
			}
		}
	}
	return out
}

// choose takes the way that was ready first.
func (s *site) choose() {
	for _, w := range s.ways {
		if w.ready && !w.busy && (s.opening == nil || w.at.Before(s.opening.at)) {
			s.opening = w
		}
	}
}

// next is when something is due without an event; zero for never.
func (m *machine) next() (t time.Time) {
	at := func(o time.Time) {
		if t.IsZero() || o.Before(t) {
			t = o
		}
	}
	for _, s := range m.sites {
		if w := s.serving; w != nil {
			if !w.busy {
				at(w.renew)
				at(w.due)
				if w.again {
					at(w.asked.Add(recheckEvery))
				}
			}
			if !s.proof.running {
				at(s.proof.due)
			}
			continue
		}
		for _, w := range s.ways {
			if !w.busy && !w.ready && !w.release {
				at(w.due)
			}
		}
	}
	return t
}
