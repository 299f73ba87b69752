package endpoint

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

// Call asks a peer. It opens a session first where sessions are on, sends again after 250 ms and then in doubling intervals,
// each time with a fresh message ID, and ends with an EventCallDone or, at the latest after timeout, an EventCallFailed. Any
// reply of the right peer to one of its message IDs completes it, Busy and WrongRange too. to.Addr may be left out for a
// peer that was heard before, its keys for one whose certificate is known.
func (e *Endpoint) Call(now time.Time, local protocol.ID, to protocol.Peer, cmd protocol.Command, payload []byte, timeout time.Duration, out *Outbox) (CallID, error) {
	c, h := e.calls.fresh(), hop{}
	c.to = to
	if err := e.route(local, &c.to, &h); err != nil {
		return 0, err
	}
	c.local, c.peer, c.cmd, c.began, c.deadline = h.local, h.peer, cmd, now, now.Add(timeout)
	c.keep(payload)
	return e.begin(now, c, &h, out)
}

// begin sends a call for the first time. Where a session stands, that takes one look at the peer, which was route's, and one at
// the table of calls.
func (e *Endpoint) begin(now time.Time, c *call, h *hop, out *Outbox) (CallID, error) {
	if !h.addr.IsValid() {
		return 0, fmt.Errorf("%w: %s", ErrNoRoute, c.to.ID.Short())
	}
	s := h.session
	if s == nil || now.Before(h.signed) || !e.sealable(c) || e.ended(now, s) || e.ageing(now, s) {
		c.shared = true
		if err := e.start(now, c); err != nil {
			return 0, err
		}
		if err := e.transmit(now, c, out); err != nil {
			e.calls.finish(c)
			return 0, err
		}
		return c.id, nil
	}
	c.idUsed, c.attempts = true, append(c.room[:0], attempt{sent: now, session: s})
	if err := e.start(now, c); err != nil {
		return 0, err
	}
	id := c.id
	if !out.pack(e, s, h.addr, c.cmd, false, uint64(id), c.payload) {
		e.calls.finish(c)
		return 0, tooLong(c.cmd, len(c.payload))
	}
	c.begun.Store(true)
	s.touch(now)
	return id, nil
}

func tooLong(c protocol.Command, n int) error {
	return fmt.Errorf("%w: %s with %d bytes of payload", protocol.ErrOversized, c, n)
}

// sealable reports whether a call may ride a session.
func (e *Endpoint) sealable(c *call) bool {
	return c.opening == nil && e.cfg.Sessions && !c.cmd.AlwaysSigned() && !c.cmd.AnsweredToRevoked()
}

// Cancel ends a call without an event.
func (e *Endpoint) Cancel(id CallID) {
	sh := e.calls.shard(uint64(id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.at(uint64(id)); c != nil && c.id == id && c.opening == nil {
		e.calls.finishLocked(sh, c)
	}
}

// hop is a peer as one call finds it.
type hop struct {
	local   *identity
	peer    *peer
	cert    *protocol.CertifiedNode
	session *session // to send on
	signed  time.Time
	own     bool           // the caller has given the key of the certificate
	addr    netip.AddrPort // where the caller said, else from where the peer was last heard
}

func (h *hop) look(to *protocol.Peer) {
	p := h.peer
	p.mu.Lock()
	h.cert, h.session, h.signed, h.addr = p.cert, p.current, p.signed, p.addr
	h.own = h.cert != nil && p.signing == to.Signing
	p.mu.Unlock()
	if to.Addr.IsValid() {
		h.addr = to.Addr
	}
}

// route finds the identity and the peer, and fills in the keys that the caller left out.
func (e *Endpoint) route(local protocol.ID, to *protocol.Peer, h *hop) error {
	i, err := e.local(local)
	if err != nil {
		return err
	}
	h.local = i
	if i.state.Load().revoked(to.ID) {
		return fmt.Errorf("%w: %s", ErrRevoked, to.ID.Short())
	}
	if h.peer = i.known(to.ID); h.peer != nil {
		h.look(to)
		if c := h.cert; c != nil && to.Signing.IsZero() {
			to.Signing, to.Sealing, h.own = c.Signing, c.Sealing, true
		}
		if h.own && !to.Sealing.IsZero() {
			return nil // the certificate has bound the key to the ID
		}
	}
	if to.Signing.IsZero() || to.Sealing.IsZero() || to.ID != protocol.NodeID(to.ID.Domain(), to.Signing) {
		return fmt.Errorf("%w: %s", ErrPeer, to.ID.Short())
	}
	var gone *peer
	h.peer, gone = i.peer(to.ID)
	if gone != nil {
		e.dropPeer(gone)
	}
	h.look(to)
	return nil
}

func (e *Endpoint) start(now time.Time, c *call) error {
	c.interval, c.next = firstRetry, now.Add(firstRetry)
	if c.oneWay {
		c.next = c.deadline
	}
	return e.calls.add(c, &e.rand)
}

// messageID draws an ID in the call's shard; the first attempt uses the call's own.
func (e *Endpoint) messageID(c *call) (uint64, error) {
	if e.calls.first(c) {
		return uint64(c.id), nil
	}
	id, err := e.rand.uint64()
	return id&^whereMask | uint64(c.id)&whereMask, err
}

// transmit sends a call once more, or puts it in line for a session that is being opened.
func (e *Endpoint) transmit(now time.Time, c *call, out *Outbox) error {
	p := c.peer
	if !e.sealable(c) {
		return e.transmitSigned(now, c, c.address(), out)
	}
	p.mu.Lock()
	signed := now.Before(p.signed)
	s := p.current
	p.mu.Unlock()
	if s != nil && e.ended(now, s) {
		e.endSession(s)
		s = nil
	}
	switch {
	case signed, c.oneWay && s == nil:
		return e.transmitSigned(now, c, c.address(), out)
	case c.oneWay:
		return e.transmitSealed(now, c, s, out)
	}
	tries := 0
	if s != nil {
		tries = e.calls.silent(c, s)
	}
	if s == nil || tries >= 2 || e.ageing(now, s) {
		if err := e.open(now, c, tries >= 2, out); err != nil && s == nil {
			return err
		}
	}
	if s == nil {
		var err error
		if s, err = e.wait(c); s == nil {
			return err
		}
	}
	return e.transmitSealed(now, c, s, out)
}

// wait puts c in line, unless the session stands by now.
func (e *Endpoint) wait(c *call) (*session, error) {
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		return p.current, nil
	}
	if slices.Contains(p.waiting, c) {
		return nil, nil
	}
	if len(p.waiting) >= e.cfg.Limits.Waiting {
		return nil, ErrTooMany
	}
	p.waiting = append(p.waiting, c)
	return nil, nil
}

func (e *Endpoint) transmitSealed(now time.Time, c *call, s *session, out *Outbox) error {
	addr := c.address()
	if !addr.IsValid() {
		return ErrNoRoute
	}
	id, err := e.messageID(c)
	if err != nil {
		return err
	}
	if !e.calls.sent(c, attempt{id: id, sent: now, session: s}) {
		return nil
	}
	if !out.pack(e, s, addr, c.cmd, false, id, c.payload) {
		return tooLong(c.cmd, len(c.payload))
	}
	s.touch(now)
	return nil
}

func (e *Endpoint) transmitSigned(now time.Time, c *call, addr netip.AddrPort, out *Outbox) error {
	if !addr.IsValid() {
		return ErrNoRoute
	}
	id, err := e.messageID(c)
	if err != nil {
		return err
	}
	b, err := e.sign(out.room(), now, c.local, c.to, c.cmd, false, id, c.payload, c.peer.cookieNow(now))
	if err != nil {
		return err
	}
	env, err := protocol.ParseEnvelope(b)
	if err != nil {
		return err
	}
	a := attempt{id: id, sent: now, signed: &signedAttempt{mac1: env.MAC1()}}
	if c.opening != nil {
		a.signed.transcript = env.Transcript()
	}
	if e.calls.sent(c, a) {
		out.put(addr, b)
	}
	return nil
}

func (e *Endpoint) sign(dst []byte, now time.Time, i *identity, to protocol.Peer, cmd protocol.Command, reply bool, id uint64, payload []byte, cookie *protocol.Cookie) ([]byte, error) {
	return protocol.AppendSigned(dst, &protocol.Outgoing{
		Sender: i.id, Receiver: to.ID, Sealing: to.Sealing, Command: cmd, Reply: reply,
		Timestamp: e.clock(now), MessageID: id, Payload: payload, Cookie: cookie,
	}, i.state.Load().Keys.Signing, &e.rand)
}

// Send sends one message that nobody waits for: over a live session, else signed, to to.Addr or where the peer was last heard.
// For a few seconds it is kept, and sent again should the peer have to be told who we are, or have lost the session.
func (e *Endpoint) Send(now time.Time, local protocol.ID, to protocol.Peer, cmd protocol.Command, payload []byte, out *Outbox) error {
	c, h := e.calls.fresh(), hop{}
	c.to = to
	if err := e.route(local, &c.to, &h); err != nil {
		return err
	}
	c.local, c.peer, c.cmd, c.began, c.deadline = h.local, h.peer, cmd, now, now.Add(oneWayKept)
	c.oneWay = true
	c.keep(payload)
	_, err := e.begin(now, c, &h, out)
	return err
}

// Reply answers v in the form that it came in, to where it came from.
func (e *Endpoint) Reply(now time.Time, v *protocol.Verified, cmd protocol.Command, payload []byte, out *Outbox) error {
	if v.Reply || !v.Fits(cmd, len(payload)) {
		e.drops.drop(ReplyTooLong)
		return ErrReply
	}
	if v.Session == 0 {
		return e.replySigned(now, v, cmd, payload, v.From, out)
	}
	s := e.sessions.get(v.Session)
	if s == nil || s.Local != v.Receiver {
		e.drops.drop(NoRoute)
		return ErrNoRoute
	}
	if !e.within(now, s, v.From, len(payload), out) {
		return nil // as if it were lost on the way
	}
	if !out.pack(e, s, v.From, cmd, true, v.MessageID, payload) {
		return tooLong(cmd, len(payload))
	}
	s.touch(now)
	return nil
}

func (e *Endpoint) replySigned(now time.Time, v *protocol.Verified, cmd protocol.Command, payload []byte, addr netip.AddrPort, out *Outbox) error {
	if !addr.IsValid() {
		e.drops.drop(NoRoute)
		return ErrNoRoute
	}
	i, err := e.local(v.Receiver)
	if err != nil {
		return err
	}
	b, err := e.sign(out.room(), now, i, peerOf(v.Node), cmd, true, v.MessageID, payload, nil)
	if err != nil {
		return err
	}
	out.put(addr, b)
	return nil
}

func peerOf(n *protocol.CertifiedNode) protocol.Peer {
	return protocol.Peer{ID: n.ID, Signing: n.Signing, Sealing: n.Sealing}
}
