package tunnel

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"culvert/protocol"
	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
)

// OpenRequest asks for a local address behind which a device's port is.
type OpenRequest struct {
	Domain   protocol.Domain // zero: the only one
	Device   string          // name or ID
	Port     uint16
	Protocol protocol.Transport // zero: TCP
	Routes   []Route            // allowed; empty: the manager's
	Listen   netip.AddrPort     // zero: a free port of 127.0.0.1
	Persist  bool               // to be restored after a restart; see Forwards
	Caller   string             // who asked, for people
}

// Forward is a tunnel that is to last: what node stores.
type Forward struct {
	OpenRequest
	ID string
}

// OpenError is a tunnel that did not open although a route to a node was there, with what was tried.
type OpenError struct {
	Err     error
	Receipt Receipt
}

// Error is the reason alone.
func (e *OpenError) Error() string { return e.Err.Error() }

// Unwrap is the reason: ErrDeviceRefused, a *NotAllowedError, …
func (e *OpenError) Unwrap() error { return e.Err }

// Open resolves the device, races the routes, and returns when the device has answered through one of them.
func (m *Manager) Open(ctx context.Context, q OpenRequest) (*Tunnel, error) {
	t, err := m.open(ctx, q, "")
	if err != nil {
		m.counts.failed.Add(1)
		return nil, err
	}
	m.counts.opened.Add(1)
	return t, nil
}

func (m *Manager) open(ctx context.Context, q OpenRequest, id string) (*Tunnel, error) {
	t, err := m.newTunnel(q, id)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, t.cancel)
	_, err = t.way(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	if err := t.listen(q.Listen); err != nil {
		return nil, err
	}
	return t, nil
}

// newTunnel makes a tunnel that does not listen yet.
func (m *Manager) newTunnel(q OpenRequest, id string) (*Tunnel, error) {
	if q.Protocol == 0 {
		q.Protocol = protocol.TCP
	}
	if q.Protocol != protocol.TCP && q.Protocol != protocol.UDP {
		return nil, notAllowed(link.ReasonPort, "protocol %d", q.Protocol)
	}
	if len(q.Routes) == 0 {
		q.Routes = m.cfg.Routes
	}
	for _, r := range q.Routes {
		if !allowed(m.cfg.Routes, r) {
			return nil, fmt.Errorf("%w: route %q is unknown or switched off on this node", ErrNotAllowed, r)
		}
	}
	me, err := m.inDomain(q.Domain)
	if err != nil {
		return nil, err
	}
	q.Domain = me.Node.ID.Domain()
	if id == "" {
		var b [8]byte
		if _, err := io.ReadFull(m.cfg.Rand, b[:]); err != nil {
			return nil, fmt.Errorf("tunnel: read randomness: %w", err)
		}
		id = hex.EncodeToString(b[:])
	}
	t := &Tunnel{m: m, id: id, local: me.Node.ID, req: q, since: m.cfg.Now(), conns: make(map[*net.TCPConn]*link.Flow),
		sources: make(map[netip.AddrPort]*source)}
	t.ctx, t.cancel = context.WithCancel(m.ctx)
	return t, nil
}

// listen opens the local port and starts to serve it.
func (t *Tunnel) listen(at netip.AddrPort) error {
	if !at.IsValid() {
		at = netip.AddrPortFrom(loopback(), 0)
	}
	var l *rawtcp.Listener
	var u *net.UDPConn
	var err error
	if t.req.Protocol == protocol.UDP {
		u, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	} else {
		l, err = rawtcp.Listen(at)
	}
	if err == nil && (l != nil && !t.m.cfg.Descriptors.Tunnel(l) || u != nil && !t.m.cfg.Descriptors.Tunnel(u)) {
		err = errNoRoom
		if l != nil {
			_ = l.Close()
		} else {
			_ = u.Close()
		}
	}
	if err != nil {
		t.Close()
		return fmt.Errorf("tunnel: local address: %w", err)
	}
	t.mu.Lock()
	t.listener, t.packets = l, u // Close ends them from here on
	t.mu.Unlock()
	t.m.mu.Lock()
	switch {
	case t.m.closed:
		err = ErrClosed
	case len(t.m.tunnels) >= t.m.cfg.Limits.Tunnels || t.m.tunnels[t.id] != nil:
		err = ErrLimit
	default:
		t.m.tunnels[t.id] = t
	}
	t.m.mu.Unlock()
	t.m.began(t.local.Domain())
	t.mu.Lock()
	if err == nil && t.closed {
		err = ErrClosed
	}
	if err == nil {
		if l != nil {
			t.wg.Go(t.accept)
		} else {
			t.wg.Go(t.receive)
		}
	}
	t.mu.Unlock()
	if err != nil {
		t.Close()
	}
	return err
}

// Restore listens again for forwards that were to last. The device is looked for when somebody connects. It returns why
// each of those that failed did, by ID.
func (m *Manager) Restore(l []Forward) map[string]error {
	failed := make(map[string]error)
	for _, f := range l {
		t, err := m.newTunnel(f.OpenRequest, f.ID)
		if err == nil {
			err = t.listen(f.Listen)
		}
		if err != nil {
			failed[f.ID] = err
		}
	}
	return failed
}

// Forwards are the tunnels that are to last, with the local addresses they really have.
func (m *Manager) Forwards() []Forward {
	var l []Forward
	for _, t := range m.tunnelsWhere(func(t *Tunnel) bool { return t.req.Persist }) {
		f := Forward{OpenRequest: t.req, ID: t.id}
		f.Listen = t.Local()
		l = append(l, f)
	}
	return l
}

// Tunnels lists the open ones, the oldest first.
func (m *Manager) Tunnels() []*Tunnel { return m.tunnelsWhere(func(*Tunnel) bool { return true }) }

// Tunnel is the open one of that ID.
func (m *Manager) Tunnel(id string) (*Tunnel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tunnels[id]; t != nil {
		return t, nil
	}
	return nil, ErrUnknownTunnel
}

func (m *Manager) tunnelsWhere(which func(*Tunnel) bool) []*Tunnel {
	m.mu.Lock()
	all := make([]*Tunnel, 0, len(m.tunnels))
	for _, t := range m.tunnels {
		all = append(all, t)
	}
	m.mu.Unlock()
	all = slices.DeleteFunc(all, func(t *Tunnel) bool { return !which(t) })
	slices.SortFunc(all, func(a, b *Tunnel) int { return a.since.Compare(b.since) })
	return all
}
