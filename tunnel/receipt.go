package tunnel

import (
	"time"

	"culvert/protocol"
)

// mostAttempts bounds what a receipt lists.
const mostAttempts = 64

// Attempt is one route to one node that was tried.
type Attempt struct {
	Route Route
	Node  protocol.ID // the tunnel-node; this node itself where it reaches the device
	Relay protocol.ID // zero where none
	After time.Duration
	Took  time.Duration
	// Shared: the link was there already, or was made for another tunnel to the same node.
	Shared bool
	Error  string // empty: it worked
}

// Receipt is what a tunnel leaves for people: what was tried, how long it took, why each way failed, bytes.
type Receipt struct {
	Attempts []Attempt // of the latest race
	Took     time.Duration
	Races    int
	Conns    int64
	Sent     int64 // towards the device
	Received int64
	Dropped  int64 // datagrams from this machine's programs for which there was no room
}

// Served is what this node carried for another as tunnel-node.
type Served struct {
	Local    protocol.ID
	Peer     protocol.ID
	Device   protocol.ID
	Port     uint16
	Protocol protocol.Transport
	Route    Route
	Relay    protocol.ID
	Since    time.Time
	Last     time.Time
	Open     int // connections now
	Conns    int64
	Failed   int64
	Error    string // of the last failed one
	Bytes    int64  // both ways
}
