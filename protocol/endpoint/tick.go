package endpoint

import "time"

// Tick sends again what was not answered, ends calls whose time is over and collects idle sessions. It appends the calls that
// failed to events.
func (e *Endpoint) Tick(now time.Time, events []Event, out *Outbox) []Event {
	ended, again := e.calls.tick(now, nil, nil)
	for _, c := range ended {
		if c.opening != nil {
			e.endOpening(c)
			continue
		}
		if c.oneWay {
			continue
		}
		e.leaveLine(c)
		events = append(events, Event{Kind: EventCallFailed, Call: c.id, Err: c.reason()})
	}
	for _, c := range again {
		e.retransmit(now, c, out)
	}
	e.sweep(now)
	return events
}

// reason is why a call ended unanswered.
func (c *call) reason() error {
	if c.err != nil {
		return c.err
	}
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if !c.peer.skewed.IsZero() && !c.peer.skewed.Before(c.began) {
		return ErrClock
	}
	return ErrTimeout
}

func (e *Endpoint) leaveLine(c *call) {
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, w := range p.waiting {
		if w == c {
			p.waiting = append(p.waiting[:k:k], p.waiting[k+1:]...)
			return
		}
	}
}

// retransmit is transmit where nobody waits for the error: the call's deadline tells.
func (e *Endpoint) retransmit(now time.Time, c *call, out *Outbox) {
	if err := e.transmit(now, c, out); err != nil {
		e.drops.drop(NoRoute)
	}
}

// Next is when Tick has something to do, should nothing arrive before.
func (e *Endpoint) Next() time.Time {
	e.mu.Lock()
	at := e.swept
	e.mu.Unlock()
	if e.sessions.count() > fewSessions {
		at = at.Add(sweepEvery)
	} else {
		at = at.Add(sweepAtLeast)
	}
	if t, ok := e.calls.next(); ok && t.Before(at) {
		at = t
	}
	return at
}

// Calling reports whether calls are under way: then Next may become earlier with what is received.
func (e *Endpoint) Calling() bool { return e.calls.n.Load() > 0 }

// sweep collects what idles, now and then.
func (e *Endpoint) sweep(now time.Time) {
	e.mu.Lock()
	if d := now.Sub(e.swept); d >= 0 && d < sweepEvery {
		e.mu.Unlock()
		return
	}
	e.swept = now
	e.mu.Unlock()
	e.endSessions(func(s *session) bool {
		idle := s.idle(now)
		return idle >= e.cfg.IdleAfter || !s.confirmed.Load() && idle >= halfLife || e.ended(now, s)
	})
	local := e.clock(now)
	for _, i := range e.identities.Load().all {
		i.replay.Sweep(local)
	}
}
