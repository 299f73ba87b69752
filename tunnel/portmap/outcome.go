package portmap

import (
	"errors"
	"slices"
	"time"
)

// What came of what was done.

func (m *machine) probed(now time.Time, ev evProbed) {
	w := m.way(ev.id)
	if w == nil {
		return
	}
	w.busy = false
	w.status.By, w.status.External, w.status.Err, w.status.Took = ev.by, ev.external, ev.err, ev.took
	var no *refusedError
	switch {
	case ev.err == nil && ev.external.IsValid() && !usable(ev.external):
		w.aside(now, Unusable, errUnusable)
	case ev.err == nil && !ev.external.IsValid() && w.kind == kindUPnP:
		w.aside(now, Unusable, errUnusable) // it was asked, and has none
	case ev.err == nil:
		w.ready, w.at, w.status.State = true, now, Available
	case errors.Is(ev.err, errUnusable):
		w.aside(now, Unusable, ev.err)
	case errors.As(ev.err, &no) && !(w.kind == kindPCP && no.code == 1), errors.Is(ev.err, errFirewall):
		w.aside(now, Refused, ev.err)
	default:
		w.aside(now, Absent, ev.err)
	}
}

// aside leaves a way for a while, the longer the more often that happens.
func (w *way) aside(now time.Time, s State, err error) {
	first, last := refusedRetry, lastRefused
	if s == Absent {
		first, last = firstRetry, lastRetry
	}
	w.ready, w.status.State, w.status.Err = false, s, err
	w.due = now.Add(min(first<<min(w.fails, 10), last))
	w.fails++
}

func (m *machine) opened(now time.Time, ev evOpened) {
	w := m.way(ev.id)
	if w == nil {
		return
	}
	s := w.site
	w.busy = false
	if s.opening == w {
		s.opening = nil
	}
	if ev.grant.external.IsValid() {
		w.status.External = ev.grant.external
	}
	some := ev.err == nil || ev.grant.tcp != 0 || ev.grant.udp != 0 // it may open ports and give an address that is none
	if w.release {                                                  // too late: it is given back
		if some {
			w.held, w.grant = true, ev.grant
		}
		return
	}
	if ev.err == nil {
		w.held, w.fails, w.grant, w.expires = true, 0, ev.grant, now.Add(ev.grant.lease)
		w.renew, w.due = now.Add(ev.grant.lease/2), now.Add(checkEvery)
		if w.status.State != Serving {
			w.status.State = Open
		}
		w.status.By, w.status.Err = ev.grant.by, nil
		s.serving = w
		if of := ev.grant.first(); s.proof.of != of {
			w.status.State = Open
			s.proof = proof{of: of, running: s.proof.running}
		}
		s.proof.due, s.proof.failed = now, 0
		return
	}
	var no *refusedError
	switch {
	case errors.Is(ev.err, errUnusable):
		if some {
			w.held, w.grant = true, ev.grant
		}
		w.release = w.held
		s.lose(now, w, true)
		w.aside(now, Unusable, ev.err)
	case errors.As(ev.err, &no), errors.Is(ev.err, errConflict):
		w.held = false
		s.lose(now, w, true)
		w.aside(now, Refused, ev.err)
	case w.held && now.Before(w.expires) && w.fails < missesMax: // silence: it may be a lost datagram
		w.again, w.renew = false, now.Add(firstRetry<<w.fails)
		w.due = w.renew
		w.fails++
	default:
		w.held = false
		s.lose(now, w, false)
		w.aside(now, Absent, ev.err)
	}
}

// lose ends the service of w, if it serves, and has the others asked again; where the router still answers, those that have
// answered may open at once.
func (s *site) lose(now time.Time, w *way, answers bool) {
	if s.serving != w {
		return
	}
	s.serving, s.proof = nil, proof{running: s.proof.running}
	w.fails = 0
	for _, o := range s.ways {
		if o != w && !(answers && o.ready) {
			o.ready, o.due, o.fails = false, now, 0
		}
	}
}

func (m *machine) checked(now time.Time, ev evChecked) {
	w := m.way(ev.id)
	if w == nil {
		return
	}
	w.busy = false
	if w.release || !w.held {
		return
	}
	switch {
	case ev.err != nil && w.fails+1 >= missesMax:
		w.held = false
		w.site.lose(now, w, false)
		w.aside(now, Absent, ev.err)
	case ev.err != nil:
		w.due = now.Add(firstRetry << w.fails)
		w.fails++
	default:
		if ev.pulse.epoch.known {
			w.grant.epoch = ev.pulse.epoch
		}
		w.fails, w.due = 0, now.Add(checkEvery)
		if ev.pulse.lost || ev.pulse.external.IsValid() && ev.pulse.external != w.grant.external {
			w.renew = now
		}
	}
}

func (m *machine) verified(now time.Time, ev evVerified) {
	w := m.way(ev.id)
	if w == nil {
		return
	}
	s, p := w.site, &w.site.proof
	p.running = false
	if s.serving != w || p.of != ev.of {
		p.due = now
		return
	}
	if ev.err == nil {
		p.good, p.unreached, p.failed, p.due = true, 0, 0, now.Add(leaseTime/2)
		w.status.State, w.status.Err = Serving, nil
		return
	}
	p.due = now.Add(min(firstVerify<<min(p.failed, 10), lastVerify))
	p.failed++
	w.status.Err = ev.err
	if !errors.Is(ev.err, ErrNotReached) {
		return
	}
	if p.unreached++; p.unreached < unreachedMax {
		return
	}
	p.good, w.status.State = false, Unreached
	if slices.ContainsFunc(s.ways, func(o *way) bool { return o != w && o.ready }) {
		s.serving, s.proof = nil, proof{}
		w.release = true
		w.aside(now, Unreached, ev.err)
		w.due = now.Add(lastRefused)
	}
}
