package tunnel

import (
	"context"
	"net/netip"

	"culvert/protocol"
	"culvert/protocol/key"
)

// Device is an end-device by its operator-signed, verified and opened record.
type Device struct {
	ID    protocol.ID
	Value protocol.EndDeviceValue
}

// Target is a tunnel-node by its verified records.
type Target struct {
	Node *protocol.CertifiedNode
	Info protocol.NodeInfoValue
}

// Resolver finds what the mesh knows. What it returns is verified.
type Resolver interface {
	// Device finds a registered device by name or ID. The tunnel side asks for every connection, so it should remember.
	// ErrUnknownDevice where there is none.
	Device(ctx context.Context, d protocol.Domain, ref string) (Device, error)
	// TunnelNodes are the nodes from which the device may be reached, best first.
	TunnelNodes(ctx context.Context, d Device) ([]Target, error)
	// Certified is the node's current certificate.
	Certified(ctx context.Context, id protocol.ID) (*protocol.CertifiedNode, error)
}

// Locator knows this machine's place in its networks.
type Locator interface {
	// Locations are the location IDs of this machine in a domain.
	Locations(d protocol.Domain) []protocol.Hash
	// FindMAC finds a device on the link; an error that is not the context's means that it is not there.
	FindMAC(ctx context.Context, mac [6]byte) (netip.Addr, error)
	// Distrust says that the device did not answer where FindMAC found it, so that it is looked for anew.
	Distrust(mac [6]byte, addr netip.Addr)
	// OnLink reports whether addr can be another machine on the link of one of this machine's interfaces.
	OnLink(addr netip.Addr) bool
	// Neighbour is the MAC that the neighbour table has for addr.
	Neighbour(addr netip.Addr) (mac [6]byte, ok bool)
	// Own are this machine's addresses with their prefixes.
	Own() []netip.Prefix
}

// Signaler exchanges the messages that come before a link.
type Signaler interface {
	// Request sends a signed TunnelRequest from the membership local to a tunnel-node, directly or through its home
	// super-nodes, and returns the verified answer and the SHA-256 of the request that it answers.
	Request(ctx context.Context, local protocol.ID, to Target, req protocol.TunnelRequest) (protocol.TunnelOpened, protocol.Hash, error)
	// Relays are super-nodes at which the target may be met, its homes first. Addr is where their TCP port is.
	Relays(ctx context.Context, local protocol.ID, to Target) ([]protocol.Peer, error)
	// Relay is the super-node of that ID, by the operator-signed map: only such a one is ever dialled.
	Relay(ctx context.Context, local, id protocol.ID) (protocol.Peer, error)
	// SealRelayJoin signs and seals a RelayJoin to a relay.
	SealRelayJoin(local protocol.ID, relay protocol.Peer, join protocol.RelayJoin) ([]byte, error)
}

// Identity is one membership of this node.
type Identity struct {
	Key     *key.Signing
	Node    *protocol.CertifiedNode // its own certificate, with the record
	Trust   *protocol.Trust
	Consent []Consent // TUN-11, of this membership only
	Serve   bool      // be a tunnel-node in this domain
}

// Route is how a tunnel's bytes travel.
type Route string

const (
	LAN     Route = "lan"
	Direct  Route = "direct"
	Mapped  Route = "mapped"
	Punched Route = "punched"
	Relayed Route = "relayed"
)

// Routes are all routes, best first.
func Routes() []Route { return []Route{LAN, Direct, Mapped, Punched, Relayed} }

// rank orders routes, the best lowest.
func (r Route) rank() int {
	for i, o := range Routes() {
		if r == o {
			return i
		}
	}
	return len(Routes())
}
