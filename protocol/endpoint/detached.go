package endpoint

import (
	"errors"
	"fmt"
	"time"

	"culvert/protocol"
)

// SealSigned makes a signed message for a peer without sending it: for a stream, or for another node to hand on. Its
// protocol.ParseEnvelope shows the message ID that an answer will echo.
func (e *Endpoint) SealSigned(now time.Time, local protocol.ID, to protocol.Peer, cmd protocol.Command, payload []byte) ([]byte, error) {
	var h hop
	if err := e.route(local, &to, &h); err != nil {
		return nil, err
	}
	id, err := e.rand.uint64()
	if err != nil {
		return nil, err
	}
	return e.sign(nil, now, h.local, to, cmd, false, id, payload, nil)
}

// SealReply makes the signed answer to a message that came in one, without sending it.
func (e *Endpoint) SealReply(now time.Time, v *protocol.Verified, cmd protocol.Command, payload []byte) ([]byte, error) {
	if v.Reply || v.Node == nil {
		return nil, ErrReply
	}
	i, err := e.local(v.Receiver)
	if err != nil {
		return nil, err
	}
	return e.sign(nil, now, i, peerOf(v.Node), cmd, true, v.MessageID, payload, nil)
}

// VerifyDetached verifies a signed message that came otherwise than in a datagram of its own: on a stream, or handed on by
// another node. node is the sender's Node record where the message came with one, else nil. It is checked like any other,
// against the same replay table; an error is one of package protocol's (ErrReplayed for the second sight of a message).
// A message with the reply flag is returned too: that its message ID was asked is for the caller to see.
func (e *Endpoint) VerifyDetached(now time.Time, raw, node []byte) (*protocol.Verified, error) {
	return e.counted(e.verifyDetached(now, raw, func(*protocol.Envelope, *protocol.Receiver) ([]byte, error) { return node, nil }))
}

// VerifyCarrying is VerifyDetached for a message that carries its sender's Node record inside its sealed payload, as RelayJoin
// does: record finds it there.
func (e *Endpoint) VerifyCarrying(now time.Time, raw []byte, record func(payload []byte) []byte) (*protocol.Verified, error) {
	return e.counted(e.verifyDetached(now, raw, func(env *protocol.Envelope, to *protocol.Receiver) ([]byte, error) {
		p, err := env.UnverifiedPayload(to)
		if err != nil {
			return nil, err
		}
		return record(p), nil
	}))
}

func (e *Endpoint) counted(v *protocol.Verified, err error) (*protocol.Verified, error) {
	if err != nil {
		e.drops.drop(detachedReason(err))
		return nil, err
	}
	return v, nil
}

func detachedReason(err error) Reason {
	switch {
	case errors.Is(err, errUnknownSender):
		return UnknownSender
	case errors.Is(err, ErrIdentity):
		return Misaddressed
	case errors.Is(err, ErrRevoked):
		return Revoked
	case errors.Is(err, errForeign):
		return Foreign
	case errors.Is(err, protocol.ErrMAC):
		return MAC1
	}
	return reasonOf(err)
}

type offer func(*protocol.Envelope, *protocol.Receiver) (record []byte, err error)

func (e *Endpoint) verifyDetached(now time.Time, raw []byte, offered offer) (*protocol.Verified, error) {
	env, err := protocol.ParseEnvelope(raw)
	if err != nil {
		return nil, err
	}
	i, err := e.local(env.Receiver)
	if err != nil {
		return nil, err
	}
	if !env.CheckMAC1(i.mac1) {
		return nil, protocol.ErrMAC
	}
	st, local := i.state.Load(), e.clock(now)
	if st.revoked(env.Sender) {
		return nil, fmt.Errorf("%w: %s", ErrRevoked, env.Sender.Short())
	}
	if !protocol.Fresh(local, env.Timestamp) {
		return nil, protocol.ErrStale
	}
	if i.replay.Seen(env.Sender, env.Timestamp, env.MessageID) {
		return nil, protocol.ErrReplayed
	}
	node, err := offered(&env, &st.receiver)
	if err != nil {
		return nil, err
	}
	cert, err := e.certificate(local, i, env.Sender, node)
	if err != nil {
		return nil, err
	}
	v := new(protocol.Verified)
	if err := env.Open(v, local, &st.receiver, cert); err != nil {
		return nil, err
	}
	v.ReplyLimit = protocol.MaxSignedPayload
	return v, nil
}

var errUnknownSender = fmt.Errorf("%w: none is known", protocol.ErrCertificate)
