package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel"
	"culvert/tunnel/punch"
	"culvert/tunnel/quicconn"
)

// puncher meets other nodes by UDP. It implements tunnel.Puncher.
type puncher struct{ n *Node }

var _ tunnel.Puncher = puncher{}

// Offer implements tunnel.Puncher.
func (p puncher) Offer(ctx context.Context, local protocol.ID) ([]protocol.Candidate, protocol.Punch, error) {
	m, ok := p.n.member(local.Domain())
	if !ok {
		return nil, protocol.Punch{}, tunnel.ErrNoMembership
	}
	c, hint := p.n.offerUDP(ctx, m)
	return c, hint, nil
}

// Meet implements tunnel.Puncher.
func (p puncher) Meet(ctx context.Context, x tunnel.Meeting) (tunnel.UDPPath, error) {
	w := punch.Meeting{
		Token: x.Token, Requester: x.Peer, TunnelNode: x.Local, Asks: x.Requester, Mine: x.MyNAT,
		Peer: punch.Side{Candidates: x.Theirs, Punch: x.TheirNAT},
		// Private addresses that do not belong here have been taken out.
		Local: x.Near || slices.ContainsFunc(x.Theirs, func(c protocol.Candidate) bool { return !tunnel.Public(c.Addr.Addr()) }),
		// A node that listens on loopback alone talks to its like on the same machine.
		Loopback: p.n.bound().Addr().IsLoopback(),
	}
	if x.Requester {
		w.Requester, w.TunnelNode = x.Local, x.Peer
	}
	path, err := p.n.punches.Meet(ctx, w)
	if err != nil {
		p.n.log.Debug("no path by UDP", "peer", x.Peer.Short(), "asked", x.Requester, "took", path.Took, "packets", path.Packets, "error", err)
		return nil, err
	}
	p.n.log.Debug("path by UDP", "peer", x.Peer.Short(), "asked", x.Requester, "at", path.Remote.String(), "main", path.Main,
		"took", path.Took, "packets", path.Packets)
	if path.Main {
		return mainPath{p.n.quic, path.Remote}, nil
	}
	e, err := quicconn.New(quicconn.Alone(path.Conn, path.Remote))
	if err != nil {
		_ = path.Conn.Close()
		return nil, fmt.Errorf("speak QUIC on a further socket: %w", err)
	}
	return &ownPath{mainPath{e, path.Remote}, path.Conn}, nil
}

// mainPath is a path over the node's one socket.
type mainPath struct {
	endpoint *quicconn.Endpoint
	peer     netip.AddrPort
}

// Dial implements tunnel.UDPPath.
func (p mainPath) Dial(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error) {
	return p.endpoint.Dial(ctx, p.peer, conf)
}

// Accept implements tunnel.UDPPath.
func (p mainPath) Accept(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error) {
	return p.endpoint.AcceptFrom(ctx, p.peer, conf)
}

// Close implements tunnel.UDPPath: the socket stays.
func (mainPath) Close() error { return nil }

// ownPath is a path over a socket of its own.
type ownPath struct {
	mainPath
	socket net.PacketConn
}

// Close implements tunnel.UDPPath.
func (p *ownPath) Close() error {
	_ = p.endpoint.Close()
	return p.socket.Close()
}

// punchSender sends punch packets from the node's one socket. It implements punch.Sender.
type punchSender struct {
	conn carrier.Conn

	mu sync.Mutex
	ms [1]carrier.Message // on the stack it would escape into the interface's call
}

// Send implements punch.Sender.
func (s *punchSender) Send(to netip.AddrPort, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ms[0] = carrier.Message{Addr: to, Buf: b, N: len(b)}
	_, err := s.conn.WriteBatch(s.ms[:])
	s.ms[0] = carrier.Message{}
	return err
}

// punchStats counts the meetings of all memberships.
func (n *Node) punchStats() map[string]uint64 {
	c := n.punches.Counters()
	return map[string]uint64{
		"met": uint64(c.Found), "not met": uint64(c.Failed), "sent": uint64(c.Sent), "held back": uint64(c.Limited),
		"unsendable": uint64(c.Unsent), "unknown": uint64(c.Unknown), "overflow": uint64(c.Dropped), "invalid": uint64(c.Invalid),
	}
}
