package endpoint

import (
	"net/netip"
	"time"

	"culvert/protocol"
)

// Receive handles one datagram, which it may overwrite, and fills in ev: with what becomes of its first message, if it has
// several. More brings the others. What has to be sent at once is put into out.
func (e *Endpoint) Receive(now time.Time, from netip.AddrPort, datagram []byte, ev *Event, out *Outbox) {
	ev.Kind, ev.Call, ev.Err, ev.s = EventNone, 0, nil, nil
	if len(datagram) == 0 {
		e.drops.drop(Malformed)
		return
	}
	switch datagram[0] {
	case protocol.TypeSealed, protocol.TypeBundle:
		e.receiveSealed(now, from, datagram, ev, out)
	case protocol.TypeSigned:
		e.receiveSigned(now, from, datagram, ev, out)
	case protocol.TypeHint:
		e.receiveHint(now, datagram, out)
	case protocol.TypeCookie:
		e.receiveCookie(now, datagram, out)
	default:
		e.drops.drop(Malformed)
	}
}

func (e *Endpoint) receiveSealed(now time.Time, from netip.AddrPort, b []byte, ev *Event, out *Outbox) {
	index, counter, err := protocol.ParseSealed(b)
	if err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	s := e.sessions.get(index)
	if s != nil && e.ended(now, s) {
		e.endSession(s)
		s = nil
	}
	if s == nil {
		e.drops.drop(UnknownSession)
		if e.hints.allow(now, from) {
			out.put(from, protocol.AppendHint(out.room(), index, counter))
		}
		return
	}
	if err := s.Unseal(&ev.Verified, b, from); err != nil {
		if r := reasonOf(err); r == BadPayload {
			e.drops.drop(BadSeal)
		} else {
			e.drops.drop(r)
		}
		return
	}
	ev.Verified.Timestamp = e.clock(now)
	s.touch(now)
	if a := host(from); !s.receivesAt(a) {
		s.strayed(a, len(b))
	}
	s.peer.validated(now, from)
	if !s.confirmed.Load() {
		s.confirmed.Store(true)
		for _, old := range s.peer.install(s) {
			e.sessions.remove(old)
		}
		e.flush(now, s.peer, out)
	}
	ev.s = s
	e.More(now, ev, out)
}

// More fills in ev with what becomes of the next message of the datagram that was received into it, and reports false where
// there is none that needs the loop.
func (e *Endpoint) More(now time.Time, ev *Event, out *Outbox) bool {
	ev.Kind, ev.Call, ev.Err = EventNone, 0, nil
	if ev.s == nil {
		return false
	}
	v := &ev.Verified
	for {
		more, err := v.Next()
		switch {
		case !more:
			ev.s = nil
			return false
		case err != nil:
			e.drops.drop(reasonOf(err))
		case v.Command.AlwaysSigned():
			e.drops.drop(NeedsSignature)
		case v.Reply && ev.s.shown(v.MessageID):
		case v.Reply:
			if e.answered(now, ev.s.peer, ev, out); ev.Kind != EventNone {
				return true
			}
		default:
			ev.Kind = EventRequest
			return true
		}
	}
}

func (e *Endpoint) receiveSigned(now time.Time, from netip.AddrPort, b []byte, ev *Event, out *Outbox) {
	env, err := protocol.ParseEnvelope(b)
	if err != nil {
		e.drops.drop(reasonOf(err))
		return
	}
	i := e.identity(env.Receiver)
	if i == nil {
		e.drops.drop(Misaddressed)
		return
	}
	if !env.CheckMAC1(i.mac1) {
		e.drops.drop(MAC1)
		return
	}
	// A revoked node may ask why, and for that say who it is.
	if i.state.Load().revoked(env.Sender) && (env.Reply && env.Command != protocol.CmdNode || !env.Reply && !env.Command.AnsweredToRevoked()) {
		e.drops.drop(Revoked)
		return
	}
	if env.Reply {
		e.receiveReply(now, from, i, &env, ev, out)
		return
	}
	if err := e.receiveRequest(now, from, i, &env, ev, out); err != nil {
		e.drops.drop(detachedReason(err))
	}
}

// receiveRequest takes a question in. What it drops without an error it has counted itself.
func (e *Endpoint) receiveRequest(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, ev *Event, out *Outbox) error {
	st, local := i.state.Load(), e.clock(now)
	if env.Command == protocol.CmdSessionOpened {
		return protocol.ErrMalformed // an answer without the reply flag
	}
	if !protocol.Fresh(local, env.Timestamp) && !e.stalePongs.allow(now, from) {
		return protocol.ErrStale
	}
	if i.replay.Seen(env.Sender, env.Timestamp, env.MessageID) {
		return protocol.ErrReplayed
	}
	validated, ok := e.withinLoad(now, from, i, env, out)
	if !ok {
		return nil
	}
	var offered []byte
	if env.Command == protocol.CmdOpenSession {
		if !e.handshakes.allow(now, from) {
			e.drops.drop(HandshakeLimit)
			return nil
		}
		if len(env.Raw()) != protocol.MaxDatagram {
			return protocol.ErrMalformed // its answer might be longer
		}
		p, err := env.ReadablePayload()
		if err != nil {
			return err
		}
		m, err := protocol.ParseOpenSession(p)
		if err != nil {
			return err
		}
		offered = m.Node
	}
	cert, err := e.certificate(local, i, env.Sender, offered)
	if err == errUnknownSender {
		e.drops.drop(UnknownSender)
		e.askWho(now, from, i, env, out)
		return nil
	}
	if err != nil {
		return err
	}
	if !st.admits(cert) {
		e.drops.drop(Foreign)
		return nil
	}
	v := &ev.Verified
	if err := env.Open(v, local, &st.receiver, cert); err != nil {
		if reasonOf(err) == Stale {
			e.tellTime(now, from, i, env, cert, out)
		}
		return err
	}
	v.From = from
	if validated {
		v.ReplyLimit = protocol.MaxSignedPayload
		if env.Command.Readable() {
			v.ReplyLimit = protocol.MaxReadablePayload
		}
	}
	p, gone := i.peer(env.Sender)
	if gone != nil {
		e.dropPeer(gone)
	}
	p.learn(cert)
	p.validated(now, from)
	if env.Command == protocol.CmdOpenSession {
		return e.answerOpening(now, i, p, env, v, out)
	}
	ev.Kind = EventRequest
	return nil
}

// withinLoad counts a message towards the load; under load it asks for a cookie. validated says that the sender receives at
// its address.
func (e *Endpoint) withinLoad(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, out *Outbox) (validated, ok bool) {
	validated = e.cookies.Check(now, from, env)
	busy, over := e.load.take(now, validated)
	if !busy {
		return validated, true
	}
	e.drops.drop(Overload)
	if over || !e.cookieRate.allow(now, from) {
		return false, false
	}
	b, err := e.cookies.AppendCookie(out.room(), now, from, env, i.state.Load().Keys.Signing.Public())
	if err == nil {
		out.put(from, b)
	}
	return false, false
}

// askWho asks a stranger for its Node record. It is a hint with the stranger's own message ID, and no longer than its message.
func (e *Endpoint) askWho(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, out *Outbox) {
	if !e.getNodes.allow(now, from) {
		return
	}
	b, err := e.sign(out.room(), now, i, protocol.Peer{ID: env.Sender}, protocol.CmdGetNode, true, env.MessageID,
		protocol.GetNode{ID: env.Sender}.AppendPayload(make([]byte, 0, 64)), nil)
	if err != nil || len(b) > len(env.Raw()) {
		return
	}
	i.asked.put(now, env)
	out.put(from, b)
}

// tellTime answers a message whose signature was right but whose clock was not.
func (e *Endpoint) tellTime(now time.Time, from netip.AddrPort, i *identity, env *protocol.Envelope, cert *protocol.CertifiedNode, out *Outbox) {
	pong := protocol.Pong{Time: e.clock(now).UnixMilli(), Observed: protocol.AddrOf(from)}
	b, err := e.sign(out.room(), now, i, peerOf(cert), protocol.CmdPong, true, env.MessageID, pong.AppendPayload(make([]byte, 0, 64)), nil)
	if err == nil && len(b) <= len(env.Raw()) {
		out.put(from, b)
	}
}
