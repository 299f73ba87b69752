package tunnel

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel/link"
)

// ServerTLS takes calls for every membership, told apart by the name they call. node merges it into its listener's
// configuration where the handshake offers link.ALPN.
func (m *Manager) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{link.ALPN},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			id, err := link.ParseServerName(h.ServerName)
			if err != nil {
				return nil, err
			}
			me, err := m.member(id)
			if err != nil {
				return nil, link.ErrServerName
			}
			return link.ServerTLS(&me.cert), nil
		},
	}
}

// AcceptLink takes over a connection whose ALPN is link.ALPN, from a listener that used ServerTLS. It returns after the
// HELLOs; on error the connection is closed.
func (m *Manager) AcceptLink(c *tls.Conn) error {
	leave, ok := m.door.Enter(c.RemoteAddr())
	if ok && !m.cfg.Descriptors.Tunnel(c) {
		leave()
		ok = false
	}
	if !ok {
		_ = c.NetConn().Close()
		m.counts.linksRefused.Add(1)
		return ErrLimit
	}
	defer leave()
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.strangerFor)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = c.NetConn().Close()
		m.counts.linksRefused.Add(1)
		return err
	}
	return m.acceptLink(ctx, c, nil)
}

func (m *Manager) acceptLink(ctx context.Context, c *tls.Conn, at *protocol.Peer) error {
	err := m.takeLink(ctx, c, at)
	if err != nil {
		m.counts.linksRefused.Add(1)
		return err
	}
	m.counts.linksIn.Add(1)
	return nil
}

func (m *Manager) takeLink(ctx context.Context, c *tls.Conn, at *protocol.Peer) error {
	conn, err := link.FromTLS(c)
	if err != nil {
		_ = c.NetConn().Close()
		return err
	}
	route := Relayed
	if at == nil {
		if route = LAN; m.remotePublic(c) {
			route = m.openRoute()
		}
	}
	_, err = m.welcome(ctx, conn, c.ConnectionState().ServerName, route, at)
	return err
}

// welcome makes the link of somebody who has called the membership name, at a relay or elsewhere. On error conn is closed.
func (m *Manager) welcome(ctx context.Context, conn link.Conn, name string, route Route, at *protocol.Peer) (*link.Link, error) {
	local, err := link.ParseServerName(name)
	if err != nil {
		_ = conn.Abandon()
		return nil, err
	}
	me, err := m.member(local)
	if err != nil {
		_ = conn.Abandon()
		return nil, err
	}
	var via protocol.ID
	if at != nil {
		via = at.ID
	}
	var x *expectation
	cfg := m.linkConfig(me)
	peer := protocol.NodeID(local.Domain(), conn.Key)
	m.bulkBy(&cfg, me, peer, at, netip.AddrPort{})
	cfg.DialBulk = nil // who was called does not call
	cfg.Serve = m.server(me, route, via)
	cfg.Admit = func(h link.Hello, renewal bool) (*protocol.CertifiedNode, error) {
		n, err := m.certified(me, h.Node)
		if err != nil || renewal {
			return n, err
		}
		if n.ID != peer {
			return nil, link.ErrPeerKey
		}
		x, err = m.spend(h, local, n.ID)
		return n, err
	}
	l, err := link.New(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	key := linkKey{local: local, peer: peer, route: route, relay: via}
	if x.role == link.RoleUser {
		key = x.key
	}
	if err := m.register(l, key); err != nil {
		return nil, err
	}
	if x.got != nil {
		x.got <- l // holds one; a link nobody takes any more ends as unused
	}
	return l, nil
}

// openRoute is the route by which others dial this node: one that has no open port but that of its router was dialled there.
func (m *Manager) openRoute() Route {
	if len(m.ownPublic(Direct)) == 0 && len(m.ownPublic(Mapped)) > 0 {
		return Mapped
	}
	return Direct
}

func (m *Manager) remotePublic(c *tls.Conn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && m.cfg.Public(a.AddrPort().Addr().Unmap())
}

// AcceptBulk takes over a connection whose first byte is link.PrefaceByte, which is still to be read. It returns when the
// connection is a flow's, or closed.
func (m *Manager) AcceptBulk(conn net.Conn) error {
	leave, ok := m.door.Enter(conn.RemoteAddr())
	if ok && !m.cfg.Descriptors.Tunnel(conn) {
		leave()
		ok = false
	}
	if !ok {
		_ = conn.Close()
		m.counts.bulkRefused.Add(1)
		return ErrLimit
	}
	defer leave()
	flow, proof, err := link.ReadPreface(conn, time.Now().Add(m.cfg.strangerFor))
	if p, ok := conn.(*carrier.Peeked); ok && len(p.Prefix) == 0 {
		conn = p.TCPConn // all of the prefix has been read: the rest comes from the socket itself
	}
	if err == nil {
		err = link.ErrPreface
		m.mu.Lock()
		var of *link.Link
		for l := range m.links {
			if l.Number() == flow.Link() {
				of = l
			}
		}
		m.mu.Unlock()
		if of != nil {
			if err = of.AcceptBulk(conn, flow, proof); err == nil {
				m.counts.bulkIn.Add(1)
				return nil
			}
		}
	}
	m.counts.bulkRefused.Add(1)
	_ = conn.Close()
	return err
}
