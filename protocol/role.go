package protocol

import (
	"context"
	"net/netip"
	"time"

	"culvert/protocol/key"
)

// Peer is another node as one talks to it.
type Peer struct {
	ID      ID
	Signing key.Public
	Sealing key.Public
	Addr    netip.AddrPort
}

// Out is one message that a handler wants sent. Handlers return bytes; loops do the I/O.
type Out struct {
	To      ID // the peer for a message of its own (over its session or observed address); ignored for a reply
	Reply   bool
	Command Command
	Payload []byte
}

// Handler handles one command. It is given nothing but the message and the time, and it never waits for another message.
type Handler func(now time.Time, v *Verified) []Out

// Role is what a node does for others.
type Role interface {
	Handlers() map[Command]Handler
}

// Caller asks another node and waits for its answer. It is bound to one membership's identity.
type Caller interface {
	Call(ctx context.Context, to Peer, p Payload) (*Verified, error)
}

// Reply is the one-element answer of a handler.
func Reply(p Payload) []Out {
	b, err := AppendPayload(nil, p)
	if err != nil {
		return nil
	}
	return []Out{{Reply: true, Command: p.Command(), Payload: b}}
}
