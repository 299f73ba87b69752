package tunnel

import (
	"context"
	"crypto/tls"

	"culvert/protocol"
	"culvert/tunnel/quicconn"
)

// Puncher makes ways for UDP through the NATs of two nodes. It is safe for concurrent use.
type Puncher interface {
	// Offer is this node's part of a meeting by UDP: its UDP candidates and what its NAT does, fresh. A zero Punch: it
	// cannot meet anybody now.
	Offer(ctx context.Context, local protocol.ID) ([]protocol.Candidate, protocol.Punch, error)
	// Meet sends towards the peer until a two-way path is there.
	Meet(ctx context.Context, m Meeting) (UDPPath, error)
}

// Meeting is what both sides of a meeting by UDP know.
type Meeting struct {
	Token       protocol.Hash // of the TunnelRequest: known to the two alone
	Requester   bool          // this node asked
	Local, Peer protocol.ID
	Theirs      []protocol.Candidate // what may be sent to: public addresses, and private ones where the two share a network
	MyNAT       protocol.Punch
	TheirNAT    protocol.Punch
	Near        bool // the two are at one location
}

// UDPPath is a way for UDP between two nodes that works both ways.
type UDPPath interface {
	// Dial makes a QUIC connection over the path, as TLS client.
	Dial(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error)
	// Accept waits for the peer's.
	Accept(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error)
	// Close gives up what the path holds. It is called once the connection over it has ended, or none came.
	Close() error
}
