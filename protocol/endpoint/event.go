package endpoint

import "culvert/protocol"

// EventKind says what became of a datagram or of a call.
type EventKind int

const (
	EventNone       EventKind = iota // nothing for the loop to do
	EventRequest                     // Verified asks; answer with Reply
	EventCallDone                    // Verified answers Call
	EventCallFailed                  // Call has ended for the reason Err
)

// Event is filled in by Receive, More and Tick. It is reused: Verified, and what it points to, is good until the next Receive into
// the same event or the next use of the datagram's memory, whichever comes first. Clone what must live longer.
type Event struct {
	Kind     EventKind
	Call     CallID
	Err      error
	Verified protocol.Verified

	s *session // of a datagram that may hold more messages
}
