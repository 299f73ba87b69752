package tunnel

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

const (
	// expectFor is how long an answered request may wait for its link.
	expectFor = 30 * time.Second
	// backAfter is how long a node waits for the requester's own link before it dials back.
	backAfter = 300 * time.Millisecond
	// earlyFor is how long a link that dials back waits for the answer that announces it, which may be on its way still.
	earlyFor = 2 * time.Second
	introFor = 12 * time.Second
)

// expectation is a link that may come because of one signed, answered request. The first HELLO spends it.
type expectation struct {
	local, peer protocol.ID
	role        link.Role // of this side
	key         linkKey   // on the user's side
	since       time.Time
	got         chan *link.Link // on the user's side; takes one
}

func (m *Manager) expect(h protocol.Hash, x *expectation) {
	m.mu.Lock()
	m.expected[h] = x
	close(m.changed)
	m.changed = make(chan struct{})
	m.mu.Unlock()
	m.stirred()
}

// unexpect takes an expectation back; a link that came for nobody is closed.
func (m *Manager) unexpect(h protocol.Hash, x *expectation) {
	m.mu.Lock()
	if m.expected[h] == x {
		delete(m.expected, h)
	}
	m.mu.Unlock()
}

// asking counts requests under way to a peer, so that an early link of its is waited for and no other.
func (m *Manager) asking(peer protocol.ID, by int) {
	m.mu.Lock()
	if m.asked[peer] += by; m.asked[peer] == 0 {
		delete(m.asked, peer)
	}
	m.mu.Unlock()
}

// spend takes the expectation of a HELLO.
func (m *Manager) spend(h link.Hello, local, peer protocol.ID) (*expectation, error) {
	refused := &link.RefusedError{Reason: link.ReasonRequest}
	deadline := time.NewTimer(earlyFor)
	defer deadline.Stop()
	for {
		m.mu.Lock()
		x, changed, early := m.expected[h.Request], m.changed, m.asked[peer] > 0
		if x != nil {
			defer m.mu.Unlock()
			if x.local != local || x.peer != peer || x.role == h.Role || time.Since(x.since) > expectFor {
				return nil, refused
			}
			delete(m.expected, h.Request)
			return x, nil
		}
		m.mu.Unlock()
		if !early || h.Role != link.RoleTunnel {
			return nil, refused
		}
		select {
		case <-changed:
		case <-deadline.C:
			return nil, refused
		case <-m.ctx.Done():
			return nil, refused
		}
	}
}

// HandleRequest answers a verified TunnelRequest as tunnel-node. It asks the resolver for the device, so it belongs in a
// worker, and starts what it has to dial in goroutines of the manager.
func (m *Manager) HandleRequest(ctx context.Context, now time.Time, v *protocol.Verified, req protocol.TunnelRequest) protocol.TunnelOpened {
	m.counts.requests.Add(1)
	hash := protocol.Hash(sha256.Sum256(v.Raw))
	answer := protocol.TunnelOpened{Request: hash}
	if err := m.admitRequest(ctx, now, v, req, hash); err != nil {
		m.counts.requestsRefused.Add(1)
		answer.Status = StatusOf(err)
		if errors.Is(err, errNotServing) {
			answer.Status = protocol.StatusPolicy
		}
		return answer
	}
	answer.Candidates = m.ownCandidates()
	if me, err := m.member(v.Receiver); err == nil {
		m.offerPunch(ctx, me, v.Sender, req, &answer)
	}
	return answer
}

var errNotServing = errors.New("tunnel: this node serves no tunnels in the domain")

func (m *Manager) admitRequest(ctx context.Context, now time.Time, v *protocol.Verified, req protocol.TunnelRequest, hash protocol.Hash) error {
	me, err := m.member(v.Receiver)
	if err != nil || v.Node == nil || v.Node.ID != v.Sender || len(v.Raw) == 0 {
		return ErrUnknownDevice
	}
	if !me.Serve {
		return errNotServing
	}
	if !now.Before(v.Node.Expires) || m.cfg.Revoked(v.Sender) {
		return ErrRevoked
	}
	if len(req.Candidates) > 4 {
		return ErrLimit
	}
	if err := m.roomForRequest(v.Sender); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deviceTimeout)
	defer cancel()
	dev, err := m.cfg.Resolver.Device(ctx, me.Node.ID.Domain(), req.Device.String())
	if err != nil {
		return ErrUnknownDevice
	}
	a := Ask{Device: dev, Requester: v.Node, Port: req.Port, Protocol: req.Protocol, Local: me.Node.ID, Consent: me.Consent}
	if err := CheckRecord(a); err != nil {
		return err
	}
	if err := CheckConsent(a); err != nil {
		return err
	}
	if !dev.Value.Node.IsZero() && dev.Value.Node != me.Node.ID {
		return ErrDeviceUnreachable
	}
	m.expect(hash, &expectation{local: me.Node.ID, peer: v.Sender, role: link.RoleTunnel, since: time.Now()})
	// v and what it points at die with this call; the certificate is kept by its own copy.
	peer := *v.Node
	peer.Record = slices.Clone(peer.Record)
	if !req.Relay.IsZero() && !req.Token.IsZero() {
		m.introduce(peer.ID, func(ctx context.Context) error { return m.meetAtRelay(ctx, me, peer.ID, req) })
	} else if back := m.publicOf(req.Candidates); len(back) > 0 {
		route := onRoute(req.Candidates[0]) // the requester names those of one route
		m.introduce(peer.ID, func(ctx context.Context) error { return m.dialBack(ctx, me, &peer, hash, route, back) })
	}
	return nil
}

func (m *Manager) roomForRequest(peer protocol.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	n := 0
	for _, x := range m.expected {
		if x.peer == peer {
			n++
		}
	}
	if len(m.expected) >= m.cfg.Limits.Requests || n >= m.cfg.Limits.PeerRequests {
		return ErrLimit
	}
	return nil
}

// publicOf are the addresses at which a requester may be dialled back. Private ones are not dialled on a stranger's word.
func (m *Manager) publicOf(c []protocol.Candidate) []netip.AddrPort {
	var l []netip.AddrPort
	for _, c := range c {
		if a := c.Addr.AddrPort; c.Protocol == protocol.TCP && a.IsValid() && a.Port() != 0 && m.cfg.Public(a.Addr()) {
			l = append(l, a)
		}
	}
	return l
}

// introduce runs one dial of this node's own towards a requester, as long as there are places. A domain has half of them at
// most: its nodes may name relays at which they never come. It reports whether fn runs.
func (m *Manager) introduce(peer protocol.ID, fn func(context.Context) error) bool {
	if !m.takeIntro(peer.Domain(), 1) {
		m.counts.introductionsFailed.Add(1)
		return false
	}
	started := m.spawn(func() {
		defer m.takeIntro(peer.Domain(), -1)
		ctx, cancel := context.WithTimeout(m.ctx, introFor)
		defer cancel()
		if fn(ctx) != nil {
			m.counts.introductionsFailed.Add(1)
		}
	})
	if !started {
		m.takeIntro(peer.Domain(), -1)
	}
	return started
}

// takeIntro takes a domain's place among the introductions, or gives it back.
func (m *Manager) takeIntro(d protocol.Domain, by int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.cfg.Limits.Introductions
	if by > 0 && (m.introduced >= most || m.intro[d] >= max(most/2, 1)) {
		return false
	}
	m.introduced += by
	if m.intro[d] += by; m.intro[d] == 0 {
		delete(m.intro, d)
	}
	return true
}

// meetAtRelay waits for the requester at the relay it named, if that is a super-node at all, and takes its link there.
func (m *Manager) meetAtRelay(ctx context.Context, me *member, peer protocol.ID, req protocol.TunnelRequest) error {
	at, err := m.cfg.Signaler.Relay(ctx, me.Node.ID, req.Relay)
	if err != nil {
		return err
	}
	conn, err := m.joinRelay(ctx, me, at, peer, req.Token)
	if err != nil {
		return err
	}
	c := tls.Server(conn, m.ServerTLS())
	if err := c.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return err
	}
	return m.acceptLink(ctx, c, &at)
}

// dialBack makes the link to a requester who has an open port, unless its own has come.
func (m *Manager) dialBack(ctx context.Context, me *member, peer *protocol.CertifiedNode, hash protocol.Hash, route Route, addrs []netip.AddrPort) error {
	timer := time.NewTimer(backAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.mu.Lock()
	_, open := m.expected[hash]
	m.mu.Unlock()
	if !open {
		return nil
	}
	c, addr, err := m.fastest(ctx, me, peer, addrs)
	if err != nil {
		return err
	}
	cfg := m.linkConfig(me)
	cfg.Role, cfg.Request = link.RoleTunnel, hash
	cfg.Serve = m.server(me, route, protocol.ID{})
	m.bulkBy(&cfg, me, peer.ID, nil, addr)
	l, err := m.greet(ctx, me, c, peer, cfg)
	if err != nil {
		return err
	}
	return m.register(l, linkKey{local: me.Node.ID, peer: peer.ID, route: route})
}
