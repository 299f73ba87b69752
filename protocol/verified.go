package protocol

import (
	"bytes"
	"net/netip"
	"sync"
	"time"
)

// Verified is a message whose sender, receiver, freshness and integrity have been proved. Only this package makes one
// outside of tests (a test of the layout holds the tree to it), and handlers accept nothing else.
type Verified struct {
	Receiver  ID
	Sender    ID
	Command   Command
	Reply     bool
	MessageID uint64
	Timestamp time.Time
	// Payload is the opened plaintext. It is only valid until the handler returns.
	Payload []byte
	// From is the address the datagram came from; zero on a stream.
	From netip.AddrPort
	// Session is the local session index, 0 for a signed message.
	Session uint64
	// Raw is the whole signed message, nil inside a session. Only valid until the handler returns.
	Raw []byte
	// Node is the sender's certificate.
	Node *CertifiedNode
	// ReplyLimit is how many bytes a reply's payload may have: what fits a datagram, or no more than the request while the
	// sender's address is not validated.
	ReplyLimit int
	// Scratch is where a handler may make its answer; nil: it allocates.
	Scratch *Scratch

	nonce   [12]byte // room for Session.Open, which must not allocate
	rest    []byte   // what Next has not come to, in the memory of the datagram
	bundled bool     // rest is a bundle's
}

// clones are those that nobody holds any more.
var clones = sync.Pool{New: func() any { return new(Verified) }}

// Clone copies v with all that it aliases, for a handler that runs after the receive buffer was reused, and on another goroutine:
// without the scratch.
func (v *Verified) Clone() *Verified {
	c := clones.Get().(*Verified)
	payload := append(c.Payload[:0], v.Payload...)
	*c = *v
	c.Scratch, c.rest = nil, nil
	c.Payload, c.Raw = payload, bytes.Clone(v.Raw)
	return c
}

// Recycle makes another clone of this one. Who calls it has been its only holder, also of its payload.
func (v *Verified) Recycle() {
	*v = Verified{Payload: v.Payload[:0]}
	clones.Put(v)
}

// Local is a message of a node to another identity of the same process: nothing to verify, since it never left.
func Local(sender *CertifiedNode, receiver ID, cmd Command, payload []byte, now time.Time) *Verified {
	return &Verified{
		Receiver: receiver, Sender: sender.ID, Command: cmd, Timestamp: now, Payload: payload, Node: sender,
		ReplyLimit: MaxPayload,
	}
}
