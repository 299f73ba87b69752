package endpoint

import (
	"errors"
	"sync/atomic"

	"culvert/protocol"
)

// Reason says why a datagram was dropped. Each dropped datagram is counted under one reason.
type Reason int

const (
	Malformed Reason = iota
	Oversized
	Version
	Misaddressed   // for an identity that is not here
	MAC1           // outer code does not fit the receiver
	Revoked        // sender's ID is on the revocation list
	Replayed       // received before
	SenderTable    // no room to tell this sender's replays apart
	Overload       // a cookie was asked for, or nothing could be done at all
	HandshakeLimit // too many openings from this prefix
	UnknownSender  // no certificate yet; it may have been asked for
	Certificate    // certificate does not verify, fit or last
	Foreign        // not admitted by the identity
	BadSignature   // signature does not fit
	Stale          // timestamp too far from our clock
	BadPayload     // payload does not open or parse
	NeedsSignature // a command that is not accepted inside a session
	Unsolicited    // an answer, hint or cookie to nothing that was asked
	UnknownSession // no such session index
	WindowMissed   // sealed counter seen before or too old
	BadSeal        // sealed message does not open
	ReplyTooLong   // our own: a reply that would be longer than it may be
	NoRoute        // our own: nowhere to send to
	Spent          // our own: a datagram of a session that has sent all it may
	Unproven       // our own: an answer that is too long for an address at which its peer has not shown that it receives
	reasonEnd      // one past the last
)

var reasonNames = [reasonEnd]string{
	"malformed", "oversized", "version", "misaddressed", "mac1", "revoked", "replayed", "sender table full", "overload",
	"handshake limit", "unknown sender", "certificate", "foreign", "signature", "stale", "payload", "needs signature",
	"unsolicited", "unknown session", "window", "seal", "reply too long", "no route", "session spent", "unproven address",
}

// String is the reason's name in Stats.
func (r Reason) String() string {
	if r < 0 || r >= reasonEnd {
		return "unknown reason"
	}
	return reasonNames[r]
}

type counters [reasonEnd]atomic.Uint64

func (c *counters) drop(r Reason) { c[r].Add(1) }

// Stats tells how many datagrams were dropped, by the name of the reason.
func (e *Endpoint) Stats() map[string]uint64 {
	m := make(map[string]uint64, reasonEnd)
	for r := range reasonEnd {
		m[r.String()] = e.drops[r].Load()
	}
	return m
}

// reasonOf is the one place where protocol's errors become counted reasons.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, protocol.ErrOversized):
		return Oversized
	case errors.Is(err, protocol.ErrVersion):
		return Version
	case errors.Is(err, protocol.ErrSignature):
		return BadSignature
	case errors.Is(err, protocol.ErrStale):
		return Stale
	case errors.Is(err, protocol.ErrReplayed):
		return Replayed
	case errors.Is(err, protocol.ErrSenderTable):
		return SenderTable
	case errors.Is(err, protocol.ErrCertificate):
		return Certificate
	case errors.Is(err, protocol.ErrOpen), errors.Is(err, protocol.ErrPayload):
		return BadPayload
	case errors.Is(err, protocol.ErrWindow):
		return WindowMissed
	}
	return Malformed
}
