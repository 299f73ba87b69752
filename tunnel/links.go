package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"culvert/protocol"
	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
	"culvert/tunnel/relay"
)

// linkKey names one link that this node dialled or was dialled for.
type linkKey struct {
	local, peer protocol.ID
	route       Route
	relay       protocol.ID
}

// entry is a living link.
type entry struct {
	link  *link.Link
	key   linkKey
	users int // tunnels of this node that rest on it; guarded by Manager.mu
}

// dialling is a link in the making, for whoever asked for it meanwhile.
type dialling struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int // guarded by Manager.mu; the last one to give up cancels
	link    *link.Link
	err     error
}

// linkTo returns the living link of that key, or makes it once for all who ask.
func (m *Manager) linkTo(ctx context.Context, key linkKey, dial func(context.Context) (*link.Link, error)) (*link.Link, error) {
	m.mu.Lock()
	if l := m.liveLocked(key); l != nil {
		m.mu.Unlock()
		return l, nil
	}
	d := m.dialling[key]
	if d == nil {
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		dctx, cancel := context.WithTimeout(m.ctx, m.cfg.OpenTimeout)
		d = &dialling{done: make(chan struct{}), cancel: cancel}
		m.dialling[key] = d
		m.wg.Go(func() {
			defer cancel()
			d.link, d.err = dial(dctx)
			m.mu.Lock()
			if m.dialling[key] == d {
				delete(m.dialling, key)
			}
			m.mu.Unlock()
			close(d.done)
		})
	}
	d.waiting++
	m.mu.Unlock()
	select {
	case <-d.done:
		return d.link, d.err
	case <-ctx.Done():
	}
	m.mu.Lock()
	if d.waiting--; d.waiting == 0 {
		d.cancel()
		if m.dialling[key] == d {
			delete(m.dialling, key)
		}
	}
	m.mu.Unlock()
	return nil, ctx.Err()
}

func (m *Manager) liveLocked(key linkKey) *link.Link {
	for l, e := range m.links {
		if e.key == key && l.Role() == link.RoleUser && l.Err() == nil && !l.Suspect() {
			return l
		}
	}
	return nil
}

// bestLive is the best living link to one of the targets over one of the routes.
func (m *Manager) bestLive(local protocol.ID, targets []Target, routes []Route) *path {
	m.mu.Lock()
	defer m.mu.Unlock()
	var best *path
	for l, e := range m.links {
		if e.key.local != local || l.Role() != link.RoleUser || l.Err() != nil || l.Suspect() || best != nil && best.route.rank() <= e.key.route.rank() {
			continue
		}
		for _, t := range targets {
			if t.Node.ID == e.key.peer && allowed(routes, e.key.route) {
				best = &path{route: e.key.route, node: e.key.peer, relay: e.key.relay, link: l}
			}
		}
	}
	return best
}

// register takes a new link into the table until it ends. A manager that was closed meanwhile ends it.
func (m *Manager) register(l *link.Link, key linkKey) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		l.Close(link.ReasonClosing)
		_ = l.Wait()
		return ErrClosed
	}
	peers := 0
	for _, e := range m.links {
		if e.key.peer == key.peer && e.key.local == key.local && e.link.Role() == l.Role() {
			peers++
		}
	}
	if peers >= m.cfg.Limits.Links {
		m.mu.Unlock()
		l.Close(link.ReasonLimit)
		_ = l.Wait()
		return fmt.Errorf("%w: links of %s", ErrLimit, key.peer.Short())
	}
	m.links[l] = &entry{link: l, key: key}
	m.wg.Go(func() {
		err := l.Wait()
		var gone *link.GoneError
		orderly := errors.As(err, &gone) || errors.Is(err, link.ErrClosed)
		m.mu.Lock()
		delete(m.links, l)
		if !orderly {
			m.lost[key.local.Domain()] = time.Now()
		}
		m.mu.Unlock()
		if !orderly && m.cfg.Lost != nil {
			m.cfg.Lost(key.local.Domain())
		}
	})
	m.mu.Unlock()
	m.began(key.local.Domain())
	// A revocation may have come between the HELLO and the table, where CloseWhere did not see the link.
	if m.cfg.Revoked(key.peer) {
		l.Close(link.ReasonRevoked)
		return ErrRevoked
	}
	m.spread(l, key)
	return nil
}

// unused reports whether nothing has rested on the link for long enough.
func (m *Manager) unused(e *entry) bool {
	m.mu.Lock()
	users := e.users
	m.mu.Unlock()
	return users == 0 && e.link.Unused() > m.cfg.IdleLink && (e.link.Role() == link.RoleUser || e.link.Silence() > m.cfg.IdleLink)
}

// rest counts a tunnel on or off a link.
func (m *Manager) rest(l *link.Link, by int) {
	if l == nil {
		return
	}
	m.mu.Lock()
	if e := m.links[l]; e != nil {
		e.users += by
	}
	m.mu.Unlock()
}

// certified judges a peer's certificate.
func (m *Manager) certified(me *member, record []byte) (*protocol.CertifiedNode, error) {
	n, err := me.Trust.CheckNode(append([]byte(nil), record...), m.cfg.Now())
	if err != nil {
		return nil, err
	}
	if n.ID.Domain() != me.Node.ID.Domain() {
		return nil, notAllowed(link.ReasonGroup, "another domain")
	}
	if m.cfg.Revoked(n.ID) {
		return nil, &link.RefusedError{Reason: link.ReasonRevoked}
	}
	return n, nil
}

// linkConfig is what all links of a membership have in common.
func (m *Manager) linkConfig(me *member) link.Config {
	return link.Config{
		Local: me.Node.ID, Node: me.Node.Record, PromoteAfter: m.cfg.PromoteAfter, Timing: m.cfg.Timing, Limits: m.cfg.LinkLimits,
		News: m.news, Go: m.crew.Go,
	}
}

// call makes a link over a fresh connection to a node that is known, as TLS client.
func (m *Manager) call(ctx context.Context, me *member, conn net.Conn, peer *protocol.CertifiedNode, cfg link.Config) (*link.Link, error) {
	c := tls.Client(conn, link.ClientTLS(&me.cert, peer))
	if err := c.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return m.greet(ctx, me, c, peer, cfg)
}

// greet makes a link over a finished handshake to a node that is known.
func (m *Manager) greet(ctx context.Context, me *member, c *tls.Conn, peer *protocol.CertifiedNode, cfg link.Config) (*link.Link, error) {
	conn, err := link.FromTLS(c)
	if err != nil {
		_ = c.NetConn().Close()
		return nil, err
	}
	return m.greetOver(ctx, me, conn, peer, cfg)
}

// greetOver is greet on whatever carries the link. On error conn is closed.
func (m *Manager) greetOver(ctx context.Context, me *member, conn link.Conn, peer *protocol.CertifiedNode, cfg link.Config) (*link.Link, error) {
	cfg.Dialler = true
	cfg.Admit = func(h link.Hello, _ bool) (*protocol.CertifiedNode, error) {
		n, err := m.certified(me, h.Node)
		if err == nil && n.ID != peer.ID {
			err = link.ErrPeerKey
		}
		return n, err
	}
	l, err := link.New(ctx, conn, cfg)
	var gone *link.GoneError
	if errors.As(err, &gone) {
		err = fmt.Errorf("refused by the other node: %w", fromReason(gone.Reason, gone.Text))
	}
	return l, err
}

// joinRelay meets another node at a relay.
func (m *Manager) joinRelay(ctx context.Context, me *member, at protocol.Peer, with protocol.ID, token protocol.Hash) (net.Conn, error) {
	if now, err := m.member(me.Node.ID); err == nil {
		me = now // its certificate may have been renewed since a link was made
	}
	raw, err := m.cfg.Signaler.SealRelayJoin(me.Node.ID, at, protocol.RelayJoin{Token: token, Peer: with, Node: me.Node.Record})
	if err != nil {
		return nil, err
	}
	conn, err := m.cfg.DialRelay(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("relay %s: %w", at.ID.Short(), err)
	}
	if err := relay.Join(ctx, conn, raw); err != nil {
		return nil, fmt.Errorf("relay %s: %w", at.ID.Short(), err)
	}
	return conn, nil
}

// bulkBy fills in how flows of a link get connections of their own: by the link's address again, or at its relay by a new
// token.
func (m *Manager) bulkBy(cfg *link.Config, me *member, peer protocol.ID, at *protocol.Peer, addr netip.AddrPort) {
	if at == nil {
		cfg.DialBulk = func(ctx context.Context, _ func(protocol.Hash) error) (net.Conn, error) {
			return m.cfg.DialNode(ctx, addr)
		}
		return
	}
	where := *at
	cfg.DialBulk = func(ctx context.Context, meet func(protocol.Hash) error) (net.Conn, error) {
		token, err := m.token()
		if err != nil {
			return nil, err
		}
		if err := meet(token); err != nil {
			return nil, err
		}
		return m.joinRelay(ctx, me, where, peer, token)
	}
	cfg.Meet = func(ctx context.Context, token protocol.Hash) (net.Conn, error) {
		return m.joinRelay(ctx, me, where, peer, token)
	}
}

// fastest dials addresses, the next one a moment after the last, until one has finished its handshake with peer.
func (m *Manager) fastest(ctx context.Context, me *member, peer *protocol.CertifiedNode, addrs []netip.AddrPort) (*tls.Conn, netip.AddrPort, error) {
	type result struct {
		conn *tls.Conn
		addr netip.AddrPort
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, len(addrs))
	running, started := 0, 0
	start := func() {
		addr := addrs[started]
		started++
		running++
		go func() {
			raw, err := m.cfg.DialNode(ctx, addr)
			if err != nil {
				results <- result{err: err}
				return
			}
			if c, ok := raw.(*net.TCPConn); ok {
				raw = rawtcp.New(c)
			}
			c := tls.Client(raw, link.ClientTLS(&me.cert, peer))
			if err := c.HandshakeContext(ctx); err != nil {
				_ = raw.Close()
				results <- result{err: fmt.Errorf("%s: %w", addr, err)}
				return
			}
			results <- result{conn: c, addr: addr}
		}()
	}
	defer func() { // the losers are waited for: each ends by ctx
		cancel()
		for ; running > 0; running-- {
			if r := <-results; r.conn != nil {
				_ = r.conn.NetConn().Close()
			}
		}
	}()
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	var last error = errNoAddress
	for started < len(addrs) || running > 0 {
		if running == 0 {
			start()
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, r.addr, nil
			}
			last = r.err
		case <-pace.C:
			if started < len(addrs) {
				start()
			}
		}
	}
	return nil, netip.AddrPort{}, last
}

var errNoAddress = errors.New("no address to dial")
