package protocol

import (
	"bytes"
	"net/netip"
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

// Clone copies v with all that it aliases, for a handler that runs after the receive buffer was reused, and on another goroutine:
// without the scratch.
func (v *Verified) Clone() *Verified {
	c := *v
	c.Scratch = nil
	c.Payload, c.Raw, c.rest = bytes.Clone(v.Payload), bytes.Clone(v.Raw), nil
	return &c
}

// Local is a message of a node to another identity of the same process: nothing to verify, since it never left.
func Local(sender *CertifiedNode, receiver ID, cmd Command, payload []byte, now time.Time) *Verified {
	return &Verified{
		Receiver: receiver, Sender: sender.ID, Command: cmd, Timestamp: now, Payload: payload, Node: sender,
		ReplyLimit: MaxPayload,
	}
}
