package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

var (
	errNoLocation = errors.New("the tunnel-node is at another location, or offers no address there")
	errNoPort     = errors.New("no open TCP port at either end")
	errNoMapping  = errors.New("no router at either end has opened a TCP port")
)

// addresses are where the node may be dialled on a route.
func (m *Manager) addresses(d protocol.Domain, t Target, c []protocol.Candidate, route Route) []netip.AddrPort {
	near := shares(m.cfg.Locator.Locations(d), t.Info.Locations)
	var l []netip.AddrPort
	for _, c := range c {
		a := c.Addr.AddrPort
		if c.Protocol != protocol.TCP || !a.IsValid() || a.Port() == 0 || slices.Contains(l, a) {
			continue
		}
		public := m.cfg.Public(a.Addr())
		if route == LAN && near && !public && dialable(a.Addr()) || route == onRoute(c) && public {
			l = append(l, a)
		}
	}
	return l
}

// onRoute is the route of a public candidate: what a router was asked to open is told from what is open by itself.
func onRoute(c protocol.Candidate) Route {
	if c.Kind == protocol.CandidateMapped {
		return Mapped
	}
	return Direct
}

// byAddress makes a link to an open port of the tunnel-node, or has it dial one of ours.
func (m *Manager) byAddress(ctx context.Context, w want, t Target, key linkKey) (*link.Link, error) {
	domain := key.local.Domain()
	addrs := m.addresses(domain, t, t.Info.Candidates, key.route)
	var back []protocol.Candidate
	if key.route != LAN {
		back = m.ownPublic(key.route)
	}
	if len(addrs) == 0 && len(back) == 0 {
		switch key.route {
		case LAN:
			return nil, errNoLocation
		case Mapped:
			return nil, errNoMapping
		}
		return nil, errNoPort
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	type dialled struct {
		conn *tls.Conn
		addr netip.AddrPort
		err  error
	}
	results, running := make(chan dialled, 2), 0
	dial := func(addrs []netip.AddrPort) {
		running++
		go func() {
			c, a, err := m.fastest(ctx, w.me, t.Node, addrs)
			results <- dialled{c, a, err}
		}()
	}
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if r := <-results; r.conn != nil {
				_ = r.conn.NetConn().Close()
			}
		}
	}()
	if len(addrs) > 0 {
		dial(addrs)
	}
	m.asking(t.Node.ID, 1)
	defer m.asking(t.Node.ID, -1)
	answer, hash, err := m.request(ctx, w, t, protocol.TunnelRequest{Candidates: back})
	if err != nil {
		return nil, err
	}
	more := slices.DeleteFunc(m.addresses(domain, t, answer.Candidates, key.route), func(a netip.AddrPort) bool {
		return slices.Contains(addrs, a)
	})
	if len(more) > 0 {
		dial(more)
	}
	var came chan *link.Link
	if len(back) > 0 {
		x := &expectation{local: key.local, peer: t.Node.ID, role: link.RoleUser, key: key, since: time.Now(), got: make(chan *link.Link, 1)}
		came = x.got
		m.expect(hash, x)
		defer m.unexpect(hash, x)
	}
	last := errNoPort
	for running > 0 || came != nil {
		select {
		case r := <-results:
			running--
			if r.err != nil {
				last = r.err
				continue
			}
			cfg := m.linkConfig(w.me)
			cfg.Role, cfg.Request = link.RoleUser, hash
			m.bulkBy(&cfg, w.me, t.Node.ID, nil, r.addr)
			l, err := m.greet(ctx, w.me, r.conn, t.Node, cfg)
			if err != nil {
				return nil, err
			}
			return l, m.register(l, key)
		case l := <-came:
			return l, nil
		case <-ctx.Done():
			return nil, errors.Join(last, ctx.Err())
		}
	}
	return nil, last
}

// ownCandidates are where this node may be dialled, for an answer.
func (m *Manager) ownCandidates() []protocol.Candidate {
	return m.own(func(protocol.Candidate) bool { return true })
}

// ownPublic are the addresses of a route at which this node may be dialled back.
func (m *Manager) ownPublic(route Route) []protocol.Candidate {
	return m.own(func(c protocol.Candidate) bool { return onRoute(c) == route && m.cfg.Public(c.Addr.Addr()) })
}

func (m *Manager) own(which func(protocol.Candidate) bool) []protocol.Candidate {
	if m.cfg.Candidates == nil {
		return nil
	}
	l := slices.DeleteFunc(m.cfg.Candidates(), func(c protocol.Candidate) bool {
		return c.Protocol != protocol.TCP || !which(c)
	})
	return l[:min(len(l), 4)]
}
