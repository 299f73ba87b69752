package dht

import (
	"errors"
	"fmt"

	"culvert/protocol"
)

var (
	// ErrUnreachable marks a lookup or store for which too few members of the range answered soundly. Nothing is known about
	// the record.
	ErrUnreachable = errors.New("dht: too few super-nodes answered")
	// ErrRejected marks a store that super-nodes refuse; see RejectedError.
	ErrRejected = errors.New("dht: store refused")
	// ErrProvisional marks a store that the operator alone has taken, in place of members that did not answer: it can be found
	// while they are away, but they may come back without it. It is to be stored again once they may be there.
	ErrProvisional = errors.New("dht: stored at the operator alone")
	// ErrIgnored is what a reader's check says of a sound record that it leaves out, such as a revoked node's: whoever served it
	// did nothing wrong.
	ErrIgnored = errors.New("dht: record is left out")
	// ErrNoMap marks a client that knows neither a partition map nor an operator.
	ErrNoMap = errors.New("dht: no super-node and no operator is known")
)

// RejectedError says why members refused a record, and which version they hold.
type RejectedError struct {
	Status protocol.Status
	Held   Version
}

// Error implements error.
func (e *RejectedError) Error() string { return fmt.Sprintf("%v: %v", ErrRejected, e.Status) }

// Unwrap makes errors.Is(err, ErrRejected) hold.
func (e *RejectedError) Unwrap() error { return ErrRejected }
