package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

var errSilent = errors.New("the other side has fallen silent")

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
	conn, err := m.dialer.connect(ctx, Ask{Device: w.device, Requester: w.me.Node, Port: w.port, Protocol: w.proto,
		Local: w.me.Node.ID, Consent: w.me.Consent})
	if err != nil {
		return nil, err
	}
	return conn.TCPConn, nil
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

// token is a new one-use token for a relay.
func (m *Manager) token() (protocol.Hash, error) {
	var h protocol.Hash
	if _, err := io.ReadFull(m.cfg.Rand, h[:]); err != nil {
		return h, fmt.Errorf("tunnel: read randomness: %w", err)
	}
	return h, nil
}
