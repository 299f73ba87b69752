package endpoint

import (
	"bytes"
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
	i, p, to, err := e.route(local, to)
	if err != nil {
		return 0, err
	}
	c := &call{local: i, peer: p, to: to, cmd: cmd, payload: bytes.Clone(payload), began: now, deadline: now.Add(timeout)}
	if !c.address().IsValid() {
		return 0, fmt.Errorf("%w: %s", ErrNoRoute, to.ID.Short())
	}
	if err := e.start(now, c); err != nil {
		return 0, err
	}
	if err := e.transmit(now, c, out); err != nil {
		e.calls.finish(c)
		return 0, err
	}
	return c.id, nil
}

// Cancel ends a call without an event.
func (e *Endpoint) Cancel(id CallID) {
	sh := e.calls.shard(uint64(id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.m[uint64(id)]; c != nil && c.id == id && c.opening == nil {
		e.calls.finishLocked(sh, c)
	}
}

// route finds the identity and the peer, and the keys that the caller left out.
func (e *Endpoint) route(local protocol.ID, to protocol.Peer) (*identity, *peer, protocol.Peer, error) {
	i, err := e.local(local)
	if err != nil {
		return nil, nil, to, err
	}
	if i.state.Load().revoked(to.ID) {
		return nil, nil, to, fmt.Errorf("%w: %s", ErrRevoked, to.ID.Short())
	}
	known := i.known(to.ID)
	if known != nil {
		if c := known.certificate(); c != nil {
			if to.Signing.IsZero() {
				to.Signing, to.Sealing = c.Signing, c.Sealing
			}
			if to.Signing == c.Signing && !to.Sealing.IsZero() {
				return i, known, to, nil // the certificate has bound the key to the ID
			}
		}
	}
	if to.Signing.IsZero() || to.Sealing.IsZero() || to.ID != protocol.NodeID(to.ID.Domain(), to.Signing) {
		return nil, nil, to, fmt.Errorf("%w: %s", ErrPeer, to.ID.Short())
	}
	p, gone := i.peer(to.ID)
	if gone != nil {
		e.dropPeer(gone)
	}
	return i, p, to, nil
}

func (e *Endpoint) start(now time.Time, c *call) error {
	c.interval, c.next = firstRetry, now.Add(firstRetry)
	if c.oneWay {
		c.next = c.deadline
	}
	for range 4 {
		id, err := e.rand.uint64()
		if err != nil {
			return err
		}
		if c.id = CallID(id); id != 0 && e.calls.add(c) {
			return nil
		}
	}
	return ErrTooMany
}

// messageID draws an ID in the call's shard; the first attempt uses the call's own.
func (e *Endpoint) messageID(c *call) (uint64, error) {
	if e.calls.first(c) {
		return uint64(c.id), nil
	}
	id, err := e.rand.uint64()
	return id&^(callShards-1) | uint64(c.id)%callShards, err
}

// transmit sends a call once more, or puts it in line for a session that is being opened.
func (e *Endpoint) transmit(now time.Time, c *call, out *Outbox) error {
	p := c.peer
	if c.opening != nil || !e.cfg.Sessions || c.cmd.AlwaysSigned() || c.cmd.AnsweredToRevoked() {
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
	b, err := s.AppendSealed(out.room(), c.cmd, false, id, c.payload)
	if err != nil {
		return err
	}
	if e.calls.sent(c, attempt{id: id, sent: now, session: s}) {
		s.touch(now)
		out.put(addr, b)
	}
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
	a := attempt{id: id, sent: now, mac1: env.MAC1()}
	if c.opening != nil {
		a.transcript = env.Transcript()
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
	i, p, to, err := e.route(local, to)
	if err != nil {
		return err
	}
	c := &call{
		local: i, peer: p, to: to, cmd: cmd, payload: bytes.Clone(payload), began: now, deadline: now.Add(oneWayKept), oneWay: true,
	}
	if !c.address().IsValid() {
		return fmt.Errorf("%w: %s", ErrNoRoute, to.ID.Short())
	}
	if err := e.start(now, c); err != nil {
		return err
	}
	if err := e.transmit(now, c, out); err != nil {
		e.calls.finish(c)
		return err
	}
	return nil
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
	b, err := s.AppendSealed(out.room(), cmd, true, v.MessageID, payload)
	if err != nil {
		return err
	}
	s.touch(now)
	out.put(v.From, b)
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
