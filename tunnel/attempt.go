package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// path is a way to a device that works, or worked.
type path struct {
	route Route
	node  protocol.ID
	relay protocol.ID
	link  *link.Link // nil: this node reaches the device itself
}

func (p *path) alive() bool { return p.link == nil || p.link.Err() == nil && !p.link.Suspect() }

var (
	errNoLocation = errors.New("the tunnel-node is at another location, or offers no address there")
	errNoPort     = errors.New("no open TCP port at either end")
	errNoMapping  = errors.New("no router at either end has opened a TCP port")
	errSilent     = errors.New("the other side has fallen silent")
)

// suspectEvery is how often a link is looked at on which an answer is waited for.
const suspectEvery = 100 * time.Millisecond

// want is what is to be reached.
type want struct {
	me     *member
	device Device
	port   uint16
	proto  protocol.Transport
}

// try goes one way once.
func (m *Manager) try(ctx context.Context, w want, e entrant, targets []Target, relays [][]protocol.Peer) (*path, error) {
	if e.target < 0 {
		return &path{route: LAN, node: w.me.Node.ID}, nil
	}
	t := targets[e.target]
	p := &path{route: e.route, node: t.Node.ID}
	var at *protocol.Peer
	if e.route == Relayed {
		at = &relays[e.target][e.relay]
		p.relay = at.ID
	}
	key := linkKey{local: w.me.Node.ID, peer: t.Node.ID, route: e.route, relay: p.relay}
	var err error
	p.link, err = m.linkTo(ctx, key, func(ctx context.Context) (*link.Link, error) {
		switch {
		case at != nil:
			return m.byRelay(ctx, w, t, *at, key)
		case e.route == Punched:
			return m.byPunch(ctx, w, t, key)
		}
		return m.byAddress(ctx, w, t, key)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// connectSelf dials a device that this node itself serves, under the same guard as for others.
func (m *Manager) connectSelf(ctx context.Context, w want) (*net.TCPConn, error) {
	return m.dialer.connect(ctx, Ask{Device: w.device, Requester: w.me.Node, Port: w.port, Protocol: w.proto,
		Local: w.me.Node.ID, Consent: w.me.Consent})
}

// reachesSelf reports whether this node may find the device on its own networks.
func (m *Manager) reachesSelf(w want) bool {
	v := w.device.Value
	if !v.Node.IsZero() {
		return v.Node == w.me.Node.ID
	}
	return shares(m.cfg.Locator.Locations(w.me.Node.ID.Domain()), v.Locations)
}

func shares(a, b []protocol.Hash) bool {
	return slices.ContainsFunc(a, func(h protocol.Hash) bool { return slices.Contains(b, h) })
}

// probe lets the tunnel-node connect the device once, so that a way that works is told apart from a device that does not.
func (m *Manager) probe(ctx context.Context, w want, p *path) error {
	f, err := p.link.Open(link.Open{Device: w.device.ID, Port: w.port, Protocol: w.proto})
	if err != nil {
		return err
	}
	if err := answered(ctx, f); err != nil {
		f.Close()
		return flowError(err)
	}
	m.spawn(func() { m.endProbe(f) })
	return nil
}

// answered waits for the device's answer to f. With errSilent it ends before the link does: nothing is heard on it any more.
func answered(ctx context.Context, f *link.Flow) error {
	for {
		look, cancel := context.WithTimeout(ctx, suspectEvery)
		err := f.Opened(look)
		waiting := look.Err() != nil && errors.Is(err, look.Err())
		cancel()
		switch {
		case !waiting || ctx.Err() != nil:
			return err
		case f.Link().Suspect():
			return errSilent
		}
	}
}

// endProbe ends the probe's connection in order, so that no device takes it for a fault.
func (m *Manager) endProbe(f *link.Flow) {
	timer := time.AfterFunc(2*time.Second, f.Close)
	defer timer.Stop()
	defer f.Close()
	if f.CloseWrite() == nil {
		_, _ = f.WriteTo(io.Discard)
	}
}

// flowError is what the end of a flow means here.
func flowError(err error) error {
	var refused *link.RefusedError
	if errors.As(err, &refused) {
		return fromReason(refused.Reason, refused.Text)
	}
	return err
}

// request asks the tunnel-node and understands its answer.
func (m *Manager) request(ctx context.Context, w want, t Target, req protocol.TunnelRequest) (protocol.TunnelOpened, protocol.Hash, error) {
	req.Device, req.Port, req.Protocol = w.device.ID, w.port, w.proto
	answer, hash, err := m.cfg.Signaler.Request(ctx, w.me.Node.ID, t, req)
	if err != nil {
		return answer, hash, fmt.Errorf("ask the tunnel-node: %w", err)
	}
	return answer, hash, FromStatus(answer.Status)
}

// byRelay makes a link through a relay: the request goes out while this end already waits there.
func (m *Manager) byRelay(ctx context.Context, w want, t Target, at protocol.Peer, key linkKey) (*link.Link, error) {
	token, err := m.token()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type joined struct {
		conn net.Conn
		err  error
	}
	done := make(chan joined, 1)
	go func() {
		conn, err := m.joinRelay(ctx, w.me, at, t.Node.ID, token)
		if err != nil {
			cancel() // whoever is asked meanwhile would wait for nothing
		}
		done <- joined{conn, err}
	}()
	_, hash, err := m.request(ctx, w, t, protocol.TunnelRequest{Token: token, Relay: at.ID, RelayAddr: protocol.AddrOf(at.Addr)})
	if err != nil {
		cancel()
		j := <-done
		if j.conn != nil {
			_ = j.conn.Close()
		} else if errors.Is(err, context.Canceled) && !errors.Is(j.err, context.Canceled) {
			err = j.err
		}
		return nil, err
	}
	j := <-done
	if j.err != nil {
		return nil, j.err
	}
	cfg := m.linkConfig(w.me)
	cfg.Role, cfg.Request = link.RoleUser, hash
	m.bulkBy(&cfg, w.me, t.Node.ID, &at, netip.AddrPort{})
	l, err := m.call(ctx, w.me, j.conn, t.Node, cfg)
	if err != nil {
		return nil, err
	}
	return l, m.register(l, key)
}

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

// token is a new one-use token for a relay.
func (m *Manager) token() (protocol.Hash, error) {
	var h protocol.Hash
	if _, err := io.ReadFull(m.cfg.Rand, h[:]); err != nil {
		return h, fmt.Errorf("tunnel: read randomness: %w", err)
	}
	return h, nil
}
