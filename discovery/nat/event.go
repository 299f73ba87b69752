package nat

import (
	"net/netip"
	"time"

	"culvert/protocol"
)

// EventKind says what happened.
type EventKind uint8

const (
	Tick     EventKind = iota // nothing but time
	Opened                    // ActionOpen was done: Port is the fresh socket's, 0 where there is none
	Received                  // Data came to Socket from From
	Asked                     // the server of question Ask says that it has sent its probe (Sent), or says no, or nothing
	HopSeen                   // Hop answered a datagram that lived for two hops; Reached: it was the server; neither: nobody did
)

// Event is what a machine is told. Data is not kept.
type Event struct {
	Kind    EventKind
	Socket  int
	Port    uint16
	From    netip.AddrPort
	Data    []byte
	Ask     int
	Sent    bool
	Hop     netip.Addr
	Reached bool
}

// ActionKind says what is to be done.
type ActionKind uint8

const (
	ActionOpen  ActionKind = iota // a fresh UDP socket, of IPv6 where V6 is set
	ActionSend                    // Data from Socket to To
	ActionAsk                     // ask Server, by way of To, for a reach probe to Addr with Nonce
	ActionHop                     // send Data to To so that it lives for Hops hops, and tell who says that it died
	ActionClose                   // Socket
	ActionDone                    // the machine has ended; its result is there
)

// Action is what a machine wants done. Socket 0 is the node's own.
type Action struct {
	Kind   ActionKind
	Socket int
	V6     bool
	To     netip.AddrPort
	Data   []byte
	Ask    int
	Server protocol.ID
	Addr   netip.AddrPort
	Other  bool
	Nonce  [16]byte
	Hops   int
}

// Machine is what a loop drives: it does what Step returns, and calls it again when something happened or Next has come.
type Machine interface {
	Step(now time.Time, e Event) []Action
	Next() time.Time // zero: only when something happens
}

// Server is a super-node or an operator by its addresses, as the operator signed them.
type Server struct {
	ID      protocol.ID
	V4, V6  netip.AddrPort
	Trusted bool // an operator
}

func (s *Server) addr(v6 bool) netip.AddrPort {
	if v6 {
		return s.V6
	}
	return s.V4
}
