package dht

import (
	"context"
	"sync"
	"time"

	"culvert/protocol"
)

// machine is what drive runs.
type machine interface {
	Step(now time.Time, e Event) []Action
	Done() bool
	Deadline() time.Time
}

// lateFactor is for how many wave time-outs an answer is still waited for.
const lateFactor = 4

// drive runs a machine to its end: one goroutine for each question, all of which it waits for. prepare sees an answer before
// the machine does; false says that what its records are proved by did not come.
func (c *Client) drive(ctx context.Context, m machine, k protocol.ID, prepare func(context.Context, protocol.Peer, *protocol.Verified) bool) error {
	left := func() error {
		if c.ctx.Err() != nil {
			return ErrClosed
		}
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return left() // no question goes out for somebody who has left
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	events := make(chan Event)
	send := func(e Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	perform := func(acts []Action) {
		for _, a := range acts {
			switch a.Kind {
			case ActAsk:
				wg.Go(func() { send(c.ask(ctx, a, prepare)) })
			case ActRefresh:
				wg.Go(func() { send(c.mapEvent(ctx, a, k)) })
			}
		}
	}
	perform(m.Step(c.cfg.Now(), Event{Kind: EventTick}))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !m.Done() {
		// The deadline may pass between reading the clock and now: a tick too many does no harm.
		timer.Reset(max(m.Deadline().Sub(c.cfg.Now()), time.Millisecond))
		var e Event
		select {
		case e = <-events:
		case <-timer.C:
			e = Event{Kind: EventTick}
		case <-ctx.Done():
			return left()
		}
		perform(m.Step(c.cfg.Now(), e))
	}
	return nil
}

// mapEvent asks for the map. One that cannot be had leaves the members as they are; the machine goes on to the operator.
func (c *Client) mapEvent(ctx context.Context, a Action, k protocol.ID) Event {
	ctx, done := context.WithTimeout(ctx, lateFactor*c.cfg.Timeout)
	defer done()
	if a.Peer.ID.IsZero() {
		_ = c.refreshTogether(ctx)
	} else {
		c.refreshFrom(ctx, a.Peer, a.Epoch)
	}
	m := c.Map()
	e := Event{Kind: EventMap, Members: c.servingBy(m, k)}
	if m != nil {
		e.Epoch = m.Epoch()
	}
	if !k.IsZero() {
		for _, key := range a.Keys {
			e.Placed = append(e.Placed, Placed{Key: key, Members: c.servingBy(m, key)})
		}
	}
	return e
}

func (c *Client) ask(ctx context.Context, a Action, prepare func(context.Context, protocol.Peer, *protocol.Verified) bool) Event {
	ctx, cancel := context.WithTimeout(ctx, lateFactor*c.cfg.Timeout)
	defer cancel()
	v, err := c.cfg.Caller.Call(ctx, a.Peer, a.Payload)
	if err != nil {
		return Event{Kind: EventFailed, Tag: a.Tag}
	}
	e := Event{Kind: EventAnswer, Tag: a.Tag, Command: v.Command, Payload: v.Payload}
	e.Unproved = prepare != nil && !prepare(ctx, a.Peer, v)
	return e
}

// AddCertificate takes in a certificate that came another way, such as with a tunnel request; it proves itself.
func (c *Client) AddCertificate(raw []byte) error {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return err
	}
	_, err = c.certs.check(c.cfg.Trust, raw, r.Owner, c.cfg.Now())
	return err
}

// Certificate finds a node's certificate: known, in the local database, or by a lookup.
func (c *Client) Certificate(ctx context.Context, id protocol.ID) (*protocol.CertifiedNode, error) {
	if n, ok := c.certs.known(id, c.cfg.Now()); ok {
		return n, nil
	}
	recs, err := c.Lookup(ctx, Target{Kind: FindNode, Key: id})
	if err != nil {
		return nil, err
	}
	return c.certs.check(c.cfg.Trust, recs[0].Raw(), id, c.cfg.Now())
}
