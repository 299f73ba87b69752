package endpoint

import (
	"errors"
	"net/netip"
	"time"

	"culvert/protocol"
)

// answered completes the call that the authentic reply in ev answers, in a session or signed.
func (e *Endpoint) answered(now time.Time, p *peer, ev *Event, out *Outbox) {
	v, i := &ev.Verified, p.owner
	id, oneWay, ok := e.calls.answer(v.MessageID, func(c *call) bool {
		return (c.peer == p || c.local == p.owner && c.to.ID == v.Sender) && c.opening == nil &&
			(v.Command != protocol.CmdPong || c.cmd == protocol.CmdPing && v.Sender.Domain() != protocol.OperatorDomain)
	})
	if ok {
		if !oneWay {
			ev.Kind, ev.Call = EventCallDone, id
		}
		return
	}
	c, at, ok := e.calls.find(v.MessageID)
	if !ok || c.local != i || c.to.ID != v.Sender || c.opening != nil {
		e.drops.drop(Unsolicited)
		return
	}
	if v.Command == protocol.CmdPong {
		learned := e.learnTime(now, i, v, at)
		if c.cmd != protocol.CmdPing {
			e.misdated(now, c, learned, out)
			return
		}
	}
	if !e.calls.finish(c) {
		e.drops.drop(Unsolicited)
		return
	}
	if !c.oneWay {
		ev.Kind, ev.Call = EventCallDone, c.id
	}
}

// misdated handles a Pong to a question that was no Ping: the peer finds our clock wrong.
func (e *Endpoint) misdated(now time.Time, c *call, learned bool, out *Outbox) {
	if !learned {
		c.peer.mu.Lock()
		c.peer.skewed = now
		c.peer.mu.Unlock()
		return
	}
	if e.calls.help(c) {
		e.retransmit(now, c, out)
	}
}

// learnTime takes the clock's offset from an operator's Pong, if it is a new one, and reports whether it did. A time at which
// the operator's own record would not hold is not believed.
func (e *Endpoint) learnTime(now time.Time, i *identity, v *protocol.Verified, at attempt) bool {
	if v.Sender.Domain() != protocol.OperatorDomain {
		return false
	}
	op, ok := i.state.Load().Trust.Operator(v.Sender)
	if !ok || !op.Retired.IsZero() {
		return false
	}
	m, err := protocol.ParsePong(v.Payload)
	rtt := now.Sub(at.sent)
	if err != nil || rtt < 0 || rtt > 5*time.Second {
		return false
	}
	said := time.UnixMilli(m.Time)
	if said.Before(op.Issued) || !said.Before(op.Expires) {
		return false
	}
	offset := said.Add(rtt / 2).Sub(now)
	if d := offset - e.Offset(); d > -2*time.Second && d < 2*time.Second {
		return false
	}
	e.offset.Store(int64(offset))
	if e.cfg.ClockLearned != nil {
		e.cfg.ClockLearned(offset)
	}
	return true
}

// receiveReply takes a signed answer in. Whoever answers nothing that was asked is dropped before any public-key work.
func (e *Endpoint) receiveReply(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, ev *Event, out *Outbox) {
	c, at, ok := e.calls.find(env.MessageID)
	if !ok || c.local != i || c.to.ID != env.Sender {
		if env.Command == protocol.CmdNode {
			e.strangerAnswered(now, from, i, env, ev)
			return
		}
		e.drops.drop(Unsolicited)
		return
	}
	st, local, v := i.state.Load(), e.clock(now), &ev.Verified
	if (c.opening != nil) != (env.Command == protocol.CmdSessionOpened) &&
		env.Command != protocol.CmdGetNode && env.Command != protocol.CmdPong {
		e.drops.drop(Unsolicited)
		return
	}
	// An operator's time must get through to a clock that is wrong by more than MaxSkew.
	if env.Command != protocol.CmdPong && !protocol.Fresh(local, env.Timestamp) {
		e.drops.drop(Stale)
		return
	}
	cert := c.peer.certificate()
	if cert == nil || !local.Before(cert.Expires) {
		cert = &protocol.CertifiedNode{ID: c.to.ID, Signing: c.to.Signing, Sealing: c.to.Sealing}
	}
	if err := env.OpenAnswer(v, &st.receiver, cert); err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	v.From = from
	// Only what ends a call shows where the peer is: a hint can be sent again by anyone who saw it, from anywhere.
	switch {
	case env.Command == protocol.CmdSessionOpened:
		c.peer.validated(now, from)
		if err := e.opened(now, c, at, env, v, out); err != nil {
			e.drops.drop(detachedReason(err))
		}
	case env.Command == protocol.CmdGetNode:
		e.introduce(now, c, env, out)
	case env.Command == protocol.CmdPong && c.opening != nil:
		e.misdated(now, c, e.learnTime(now, i, v, at), out)
	case env.Command == protocol.CmdPong && !protocol.Fresh(local, env.Timestamp) && !st.isOperator(env.Sender):
		e.drops.drop(Stale)
		e.misdated(now, c, false, out)
	default:
		if e.answered(now, c.peer, ev, out); ev.Kind == EventCallDone {
			c.peer.validated(now, from)
		}
	}
}

func (s *identityState) isOperator(id protocol.ID) bool {
	o, ok := s.Trust.Operator(id)
	return ok && o.Retired.IsZero()
}

// introduce answers a peer that does not know us with our Node record, and asks again. It goes where the question went.
func (e *Endpoint) introduce(now time.Time, c *call, env *protocol.Envelope, out *Outbox) {
	st, addr := c.local.state.Load(), c.address()
	if c.opening != nil || !addr.IsValid() || !e.calls.help(c) {
		e.drops.drop(Unsolicited)
		return
	}
	p := protocol.Node{Record: st.Record}.AppendPayload(make([]byte, 0, len(st.Record)+8))
	b, err := e.sign(out.room(), now, c.local, c.to, protocol.CmdNode, true, env.MessageID, p, c.peer.cookieNow(now))
	if err != nil {
		e.drops.drop(NoRoute)
		return
	}
	out.put(addr, b)
	e.retransmit(now, c, out)
}

// strangerAnswered takes in the Node record that askWho asked for.
func (e *Endpoint) strangerAnswered(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, ev *Event) {
	asked, ok := i.asked.take(now, env.MessageID, env.Sender)
	if !ok {
		e.drops.drop(Unsolicited)
		return
	}
	st, local := i.state.Load(), e.clock(now)
	err := func() error {
		if !protocol.Fresh(local, env.Timestamp) {
			return protocol.ErrStale
		}
		p, err := env.ReadablePayload()
		if err != nil {
			return err
		}
		m, err := protocol.ParseNode(p)
		if err != nil {
			return err
		}
		cert, err := e.certificate(local, i, env.Sender, m.Record)
		if err != nil {
			return err
		}
		if !st.admits(cert) {
			return errForeign
		}
		if err := env.OpenAnswer(&ev.Verified, &st.receiver, cert); err != nil {
			return err
		}
		// The message that was answered with GetNode comes again under another ID: its first form is spent.
		if err := i.replay.Accept(local, env.Sender, asked, env.MessageID); err != nil {
			return err
		}
		p2, gone := i.peer(env.Sender)
		if gone != nil {
			e.dropPeer(gone)
		}
		p2.learn(cert)
		p2.validated(now, from)
		return nil
	}()
	if err != nil {
		e.drops.drop(detachedReason(err))
	}
}

var errForeign = errors.New("endpoint: peer is not admitted")

// receiveCookie keeps a cookie that an overloaded peer sent, and asks again with it.
func (e *Endpoint) receiveCookie(now time.Time, b []byte, out *Outbox) {
	id, err := protocol.CookieMessageID(b)
	if err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	c, at, ok := e.calls.find(id)
	if !ok || at.signed == nil {
		e.drops.drop(Unsolicited)
		return
	}
	k, err := protocol.OpenCookie(b, c.to.Signing, at.signed.mac1)
	if err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	c.peer.mu.Lock()
	c.peer.cookie, c.peer.cookieAt = k, now
	c.peer.mu.Unlock()
	if e.calls.help(c) {
		e.retransmit(now, c, out)
	}
}
