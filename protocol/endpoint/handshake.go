package endpoint

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// open starts a session with c's peer unless one is being opened already. lost says that the peer seems to have lost the
// session that there is, so that its calls are sent again once the new one stands.
func (e *Endpoint) open(now time.Time, c *call, lost bool, out *Outbox) error {
	p := c.peer
	p.mu.Lock()
	p.lost = p.lost || lost
	under := p.opening
	p.mu.Unlock()
	if under != nil {
		// A new call finds an opening that may have backed off, or that goes to an address where nobody answers.
		addr := c.address()
		if fresh := e.calls.hasten(now, c, under); fresh || addr != under.address() {
			return e.transmitSigned(now, under, addr, out)
		}
		return nil
	}
	o, err := e.newOpening(c.local)
	if err != nil {
		return err
	}
	m := protocol.OpenSession{Ephemeral: o.ephemeral.Public(), Index: o.index, Node: c.local.state.Load().Record}
	oc := &call{
		local: c.local, peer: p, to: c.to, cmd: protocol.CmdOpenSession, payload: m.AppendPayload(nil), opening: o,
		began: now, deadline: now.Add(openTimeout),
	}
	if err := e.start(now, oc); err != nil {
		return err
	}
	p.mu.Lock()
	if p.opening != nil { // another call was faster
		p.mu.Unlock()
		e.calls.finish(oc)
		return nil
	}
	p.opening = oc
	p.mu.Unlock()
	if err := e.transmitSigned(now, oc, oc.address(), out); err != nil {
		e.endOpening(oc)
		e.calls.finish(oc)
		return err
	}
	return nil
}

func (e *Endpoint) newOpening(i *identity) (*opening, error) {
	k, err := e.ephemeral()
	if err != nil {
		return nil, err
	}
	index, err := protocol.NewIndex(&e.rand)
	if err != nil {
		return nil, err
	}
	return &opening{ephemeral: k, index: index, generation: i.generation.Load()}, nil
}

// ephemeral draws 32 bytes itself: ecdh's own generation takes no injected randomness, and a seed could not replay it.
func (e *Endpoint) ephemeral() (*key.Sealing, error) {
	var b [key.Size]byte
	if _, err := io.ReadFull(&e.rand, b[:]); err != nil {
		return nil, err
	}
	return key.NewSealing(b[:])
}

func (e *Endpoint) endOpening(c *call) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.peer.opening == c {
		c.peer.opening = nil
	}
}

// answerOpening is the responder's side: the new session is kept beside the old until a message in it has opened.
func (e *Endpoint) answerOpening(now time.Time, i *identity, p *peer, env *protocol.Envelope, v *protocol.Verified, out *Outbox) error {
	m, err := protocol.ParseOpenSession(v.Payload)
	if err != nil {
		return err
	}
	if m.Index == 0 {
		return protocol.ErrMalformed
	}
	p.mu.Lock()
	late := env.Timestamp.Before(p.opened)
	if !late {
		p.opened = env.Timestamp
	}
	p.mu.Unlock()
	if late {
		return protocol.ErrReplayed
	}
	st := i.state.Load()
	answer := protocol.SessionOpened{Opening: env.Transcript()}
	var own *key.Sealing
	if e.cfg.Sessions {
		if own, err = e.ephemeral(); err != nil {
			return err
		}
		answer.Ephemeral = own.Public()
		if answer.Index, err = protocol.NewIndex(&e.rand); err != nil {
			return err
		}
		answer.Node = st.Record
	}
	payload := answer.AppendPayload(make([]byte, 0, protocol.MaxDatagram))
	if len(payload) > v.ReplyLimit {
		answer.Node = nil
		payload = answer.AppendPayload(payload[:0])
	}
	b, err := e.sign(out.room(), now, i, peerOf(v.Node), protocol.CmdSessionOpened, true, v.MessageID, payload, nil)
	if err != nil {
		return err
	}
	if own != nil {
		env2, err := protocol.ParseEnvelope(b)
		if err != nil {
			return err
		}
		s, err := e.newSession(now, p, v.From, v.Node, i.generation.Load(), own, m.Ephemeral, protocol.SessionParams{
			Local: i.id, Peer: v.Node, Index: answer.Index, Remote: m.Index, Opening: answer.Opening, Opened: env2.Transcript(),
		})
		if err != nil {
			return err
		}
		if gone := p.addHalf(s); gone != nil {
			e.sessions.remove(gone)
		}
	}
	out.put(v.From, b)
	return nil
}

// newSession agrees on keys and takes the session into the table. What was sent to at is what the other end cannot do without.
func (e *Endpoint) newSession(now time.Time, p *peer, at netip.AddrPort, cert *protocol.CertifiedNode, generation uint32, own *key.Sealing, peer key.Public, params protocol.SessionParams) (*session, error) {
	s := &session{peer: p, born: now, expires: cert.Expires, generation: generation}
	s.places.Store(&places{host(at)})
	if err := s.Agree(params, own, peer); err != nil {
		return nil, fmt.Errorf("%w: %v", protocol.ErrOpen, err)
	}
	if cert.Record == nil { // known by a SuperNode record only, which its caller has checked
		s.expires = e.clock(now).Add(2 * e.cfg.RekeyAfter)
	}
	s.confirmed.Store(params.Initiator)
	s.touch(now)
	gone, ok := e.sessions.add(s)
	if gone != nil {
		gone.peer.forget(gone)
	}
	if !ok {
		return nil, errors.New("endpoint: session index is taken")
	}
	switch { // since the message was checked
	case p.owner.removed.Load():
		e.sessions.remove(s)
		return nil, ErrRemoved
	case p.owner.state.Load().revoked(p.id):
		e.sessions.remove(s)
		return nil, ErrRevoked
	}
	return s, nil
}

// opened is the initiator's side of SessionOpened.
func (e *Endpoint) opened(now time.Time, c *call, at attempt, env *protocol.Envelope, v *protocol.Verified, out *Outbox) error {
	m, err := protocol.ParseSessionOpened(v.Payload)
	if err != nil {
		return err
	}
	if c.opening == nil || at.signed == nil || m.Opening != at.signed.transcript {
		return protocol.ErrOpen
	}
	p := c.peer
	if !e.calls.finish(c) {
		return protocol.ErrReplayed
	}
	defer e.endOpening(c)
	if m.Index == 0 {
		p.mu.Lock()
		p.signed = now.Add(signedPeriod)
		p.mu.Unlock()
		e.flush(now, p, out)
		return nil
	}
	cert := v.Node
	if len(m.Node) > 0 && p.id.Domain() != protocol.OperatorDomain {
		// A record that does not verify costs nothing: the signature was checked with the key that the ID names.
		if better, err := e.certificate(e.clock(now), c.local, p.id, m.Node); err == nil {
			p.learn(better)
			cert = better
		}
	}
	s, err := e.newSession(now, p, c.address(), cert, c.opening.generation, c.opening.ephemeral, m.Ephemeral, protocol.SessionParams{
		Local: c.local.id, Peer: cert, Index: c.opening.index, Remote: m.Index, Initiator: true,
		Opening: m.Opening, Opened: env.Transcript(),
	})
	if err != nil {
		return err
	}
	for _, old := range p.install(s) {
		e.sessions.remove(old)
	}
	e.endOpening(c)
	e.flush(now, p, out)
	return nil
}

// flush sends what waited for the session, and again what was under way in one that the peer had lost.
func (e *Endpoint) flush(now time.Time, p *peer, out *Outbox) {
	p.mu.Lock()
	l := p.waiting
	p.waiting = nil
	lost := p.lost
	p.lost = false
	p.mu.Unlock()
	if lost {
		l = append(l, e.calls.all(func(c *call) bool { return c.peer == p && c.opening == nil && !slices.Contains(l, c) })...)
	}
	for _, c := range l {
		e.retransmit(now, c, out)
	}
}

// receiveHint acts on a peer's word that it does not know the session, which anyone may have said: a new session is opened
// beside the old one, at most once a second.
func (e *Endpoint) receiveHint(now time.Time, b []byte, out *Outbox) {
	index, counter, err := protocol.ParseHint(b)
	if err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	s := e.sessions.byRemote(index)
	if s == nil || counter == 0 || counter > s.Sent() || counter+protocol.WindowSize < s.Sent() {
		e.drops.drop(Unsolicited)
		return
	}
	p := s.peer
	p.mu.Lock()
	d := now.Sub(p.hinted)
	act := p.current == s && (d >= time.Second || d < 0)
	if act {
		p.hinted = now
	}
	p.mu.Unlock()
	c := e.helper(now, s)
	if !act || c == nil {
		e.drops.drop(Unsolicited)
		return
	}
	if err := e.open(now, c, true, out); err != nil {
		e.drops.drop(NoRoute)
	}
}

// helper stands for a call of which only peer and keys matter.
func (e *Endpoint) helper(now time.Time, s *session) *call {
	if s.peer.owner.state.Load().revoked(s.peer.id) {
		return nil
	}
	return &call{local: s.peer.owner, peer: s.peer, to: peerOf(s.Peer), began: now}
}
