package tunnel

import (
	"context"
	"fmt"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// mostServed bounds what is remembered of tunnels served, keepServed for how long after their last connection.
const (
	mostServed = 4096
	keepServed = time.Hour
)

type servedKey struct {
	local, peer, device protocol.ID
	port                uint16
	proto               protocol.Transport
	route               Route
	relay               protocol.ID
}

// server answers the flows of one link.
func (m *Manager) server(me *member, route Route, via protocol.ID) func(context.Context, *link.Flow) {
	local := me.Node.ID
	return func(ctx context.Context, f *link.Flow) {
		peer := f.Link().Peer()
		open := f.Target()
		err := m.enter(peer.ID)
		if err == nil {
			defer m.leave(peer.ID)
			key := servedKey{local, peer.ID, open.Device, open.Port, open.Protocol, route, via}
			noted := m.account(key, func(s *Served) { s.Open++; m.flowsOf[f] = s })
			var moved int64
			moved, err = m.serveFlow(ctx, local, peer, f)
			if noted {
				m.account(key, func(s *Served) {
					delete(m.flowsOf, f)
					s.Open--
					s.Conns++
					s.Bytes += moved
					if err != nil {
						s.Failed++
						s.Error = err.Error()
					}
				})
			}
		}
		if err != nil {
			m.counts.flowsRefused.Add(1)
			reason, text := toReason(err)
			f.Refuse(reason, text)
			return
		}
		m.counts.flowsIn.Add(1)
	}
}

// serveFlow connects the device for one flow. Every flow is judged anew, by the certificate and the records of now.
func (m *Manager) serveFlow(ctx context.Context, local protocol.ID, peer *protocol.CertifiedNode, f *link.Flow) (int64, error) {
	me, err := m.member(local)
	if err != nil || !me.Serve {
		return 0, errNotServing
	}
	if m.cfg.Revoked(peer.ID) || !m.cfg.Now().Before(peer.Expires) {
		return 0, ErrRevoked
	}
	open := f.Target()
	wait := &patience{Context: ctx, limit: deviceTimeout}
	dev, err := m.cfg.Resolver.Device(wait, local.Domain(), open.Device.String())
	wait.end()
	if err != nil || dev.ID != open.Device {
		return 0, ErrUnknownDevice
	}
	ask := Ask{Device: dev, Requester: peer, Port: open.Port, Protocol: open.Protocol, Local: local, Consent: me.Consent}
	if open.Protocol == protocol.UDP {
		return m.serveDatagrams(ctx, ask, f)
	}
	conn, err := m.dialer.connect(ctx, ask)
	if err != nil {
		return 0, err
	}
	if err := f.Accept(); err != nil {
		abort(conn.TCPConn)
		return 0, nil // the asker has left
	}
	_, _, _ = pump(conn, f)
	return f.Moved(), nil
}

// enter takes a flow's place among those of its peer and domain.
func (m *Manager) enter(peer protocol.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows[peer] >= m.cfg.Limits.PeerFlows || m.domains[peer.Domain()] >= m.cfg.Limits.DomainFlows {
		return fmt.Errorf("%w: connections of node or domain", ErrLimit)
	}
	m.flows[peer]++
	m.domains[peer.Domain()]++
	return nil
}

func (m *Manager) leave(peer protocol.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flows[peer]--; m.flows[peer] == 0 {
		delete(m.flows, peer)
	}
	if d := peer.Domain(); m.domains[d] == 1 {
		delete(m.domains, d)
	} else {
		m.domains[d]--
	}
}

// account keeps the tunnel side's receipt; false where there is no room for another.
func (m *Manager) account(key servedKey, fn func(*Served)) bool {
	now := m.cfg.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.served[key]
	if s == nil {
		if len(m.served) >= mostServed {
			return false
		}
		s = &Served{Local: key.local, Peer: key.peer, Device: key.device, Port: key.port, Protocol: key.proto, Route: key.route, Relay: key.relay, Since: now}
		m.served[key] = s
	}
	s.Last = now
	fn(s)
	return true
}

func (m *Manager) forgetServedLocked(now time.Time) {
	for k, s := range m.served {
		if s.Open == 0 && now.Sub(s.Last) > keepServed {
			delete(m.served, k)
		}
	}
}

// Served lists what this node carries and carried for others, the latest first.
func (m *Manager) Served() []Served {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := make([]Served, 0, len(m.served))
	live := make(map[*Served]int64, len(m.flowsOf))
	for f, s := range m.flowsOf {
		live[s] += f.Moved()
	}
	for _, s := range m.served {
		one := *s
		one.Bytes += live[s]
		l = append(l, one)
	}
	slices.SortFunc(l, func(a, b Served) int { return b.Last.Compare(a.Last) })
	return l
}
