package tunnels

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"culvert/bench/world"
	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/tunnel"
)

// mesh is what a node of the benchmark knows: everybody, for good. It implements the manager's interfaces.
type mesh struct {
	w      *world.World
	e      *endpoint.Endpoint
	users  []*world.Member
	agent  *world.Member // the tunnel-node
	relay  *world.Member
	device tunnel.Device
	at     places
}

// places are where the others are.
type places struct {
	Device       uint16         // port on 127.0.0.1
	More         []uint16       // of its ports
	User         int            // which of the user-nodes it is
	Agent, Relay netip.AddrPort // TCP
}

var (
	_ tunnel.Resolver = (*mesh)(nil)
	_ tunnel.Locator  = (*mesh)(nil)
	_ tunnel.Signaler = (*mesh)(nil)
)

const (
	deviceName = "sink"
	// users is how many user-nodes there are at most. Of two in one process, one promotes its flows, one does not.
	users = 3
	// signalByte begins a connection that brings a signed TunnelRequest: what in the daemon a super-node hands on.
	signalByte  = 0x01
	signalLimit = 2 * time.Minute
)

// newMesh makes the mesh as one of its members sees it.
func newMesh(at places, me func(*mesh) []*world.Member) (*mesh, error) {
	w, err := world.New(time.Now())
	if err != nil {
		return nil, err
	}
	m := &mesh{w: w, at: at}
	for i := range users {
		u, err := w.Member("user-node", i)
		if err != nil {
			return nil, err
		}
		m.users = append(m.users, u)
	}
	if m.agent, err = w.Member("tunnel-node", 0); err != nil {
		return nil, err
	}
	if m.relay, err = w.Member("super-node", 0); err != nil {
		return nil, err
	}
	m.device = tunnel.Device{ID: protocol.NewID(world.Domain, sha256.Sum256([]byte(deviceName))), Value: protocol.EndDeviceValue{
		Name: deviceName, Node: m.agent.Cert.ID, Ports: []protocol.Port{{Number: at.Device, Protocol: protocol.TCP}},
	}}
	for _, p := range at.More {
		m.device.Value.Ports = append(m.device.Value.Ports, protocol.Port{Number: p, Protocol: protocol.TCP})
	}
	own := me(m)
	seed := sha256.Sum256(own[0].Cert.ID[:])
	m.e, err = w.Endpoint(false, binary.BigEndian.Uint64(seed[:]), own, append([]*world.Member{m.agent, m.relay}, m.users...)...)
	return m, err
}

// manager makes one of the members' managers; only the tunnel-node serves.
func (m *mesh) manager(me *world.Member, promoteAfter int64) (*tunnel.Manager, error) {
	t, err := tunnel.New(tunnel.Config{
		Resolver: m, Locator: m, Signaler: m, PromoteAfter: promoteAfter,
		Public: func(netip.Addr) bool { return true }, // 127.0.0.1 is the whole world here
	})
	if err != nil {
		return nil, err
	}
	id := tunnel.Identity{Key: me.Keys.Signing, Node: me.Cert, Trust: m.w.Trust}
	if me == m.agent {
		id.Serve = true
		id.Consent = []tunnel.Consent{{Device: deviceName, Ports: m.device.Value.Ports}}
	}
	if err := t.AddIdentity(id); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Device implements tunnel.Resolver.
func (m *mesh) Device(_ context.Context, _ protocol.Domain, ref string) (tunnel.Device, error) {
	if ref != deviceName && ref != m.device.ID.String() {
		return tunnel.Device{}, tunnel.ErrUnknownDevice
	}
	return m.device, nil
}

// TunnelNodes implements tunnel.Resolver.
func (m *mesh) TunnelNodes(context.Context, tunnel.Device) ([]tunnel.Target, error) {
	info := protocol.NodeInfoValue{Tunnel: true, Candidates: []protocol.Candidate{
		{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: protocol.AddrOf(m.at.Agent)},
	}}
	return []tunnel.Target{{Node: m.agent.Cert, Info: info}}, nil
}

// Certified implements tunnel.Resolver.
func (m *mesh) Certified(_ context.Context, id protocol.ID) (*protocol.CertifiedNode, error) {
	for _, n := range append([]*world.Member{m.agent, m.relay}, m.users...) {
		if n.Cert.ID == id {
			return n.Cert, nil
		}
	}
	return nil, fmt.Errorf("node %s is not of this mesh", id.Short())
}

// Locations implements tunnel.Locator: everybody is somewhere else.
func (m *mesh) Locations(protocol.Domain) []protocol.Hash { return nil }

// FindMAC implements tunnel.Locator.
func (m *mesh) FindMAC(context.Context, [6]byte) (netip.Addr, error) {
	return netip.Addr{}, tunnel.ErrDeviceNotFound
}

// Distrust implements tunnel.Locator.
func (m *mesh) Distrust([6]byte, netip.Addr) {}

// OnLink implements tunnel.Locator.
func (m *mesh) OnLink(netip.Addr) bool { return false }

// Neighbour implements tunnel.Locator.
func (m *mesh) Neighbour(netip.Addr) ([6]byte, bool) { return [6]byte{}, false }

// Own implements tunnel.Locator.
func (m *mesh) Own() []netip.Prefix { return nil }

// Relays implements tunnel.Signaler.
func (m *mesh) Relays(context.Context, protocol.ID, tunnel.Target) ([]protocol.Peer, error) {
	p := m.relay.Peer()
	p.Addr = m.at.Relay
	return []protocol.Peer{p}, nil
}

// Relay implements tunnel.Signaler. The tunnel-node was started before it knew of a relay but for this one's address.
func (m *mesh) Relay(_ context.Context, _, id protocol.ID) (protocol.Peer, error) {
	p := m.relay.Peer()
	p.Addr = m.at.Relay
	if p.ID != id {
		return p, fmt.Errorf("node %s is no super-node", id.Short())
	}
	return p, nil
}

// SealRelayJoin implements tunnel.Signaler.
func (m *mesh) SealRelayJoin(local protocol.ID, relay protocol.Peer, join protocol.RelayJoin) ([]byte, error) {
	b, err := protocol.AppendPayload(nil, join)
	if err != nil {
		return nil, err
	}
	return m.e.SealSigned(time.Now(), local, relay, protocol.CmdRelayJoin, b)
}

// Request implements tunnel.Signaler.
func (m *mesh) Request(ctx context.Context, local protocol.ID, to tunnel.Target, req protocol.TunnelRequest) (a protocol.TunnelOpened, h protocol.Hash, err error) {
	b, err := protocol.AppendPayload(nil, req)
	if err != nil {
		return a, h, err
	}
	raw, err := m.e.SealSigned(time.Now(), local, m.agent.Peer(), protocol.CmdTunnelRequest, b)
	if err != nil {
		return a, h, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", m.at.Agent.String())
	if err != nil {
		return a, h, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(signalLimit)); err != nil {
		return a, h, err
	}
	if _, err := c.Write(binary.BigEndian.AppendUint16([]byte{signalByte}, uint16(len(raw)))); err != nil {
		return a, h, err
	}
	if _, err := c.Write(raw); err != nil {
		return a, h, err
	}
	answer, err := io.ReadAll(io.LimitReader(c, protocol.MaxDatagram))
	if err != nil {
		return a, h, err
	}
	v, err := m.e.VerifyDetached(time.Now(), answer, nil)
	if err != nil {
		return a, h, fmt.Errorf("the tunnel-node's answer: %w", err)
	}
	a, err = protocol.ParsePayload[protocol.TunnelOpened](v.Payload)
	return a, sha256.Sum256(raw), err
}

// answerRequest is the other end of Request.
func (m *mesh) answerRequest(ctx context.Context, t *tunnel.Manager, c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(signalLimit)); err != nil {
		return err
	}
	var head [3]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	raw := make([]byte, min(binary.BigEndian.Uint16(head[1:]), protocol.MaxDatagram))
	if _, err := io.ReadFull(c, raw); err != nil {
		return err
	}
	now := time.Now()
	v, err := m.e.VerifyDetached(now, raw, nil)
	if err != nil {
		return err
	}
	v.Raw = raw
	req, err := protocol.ParsePayload[protocol.TunnelRequest](v.Payload)
	if err != nil {
		return err
	}
	b, err := protocol.AppendPayload(nil, t.HandleRequest(ctx, now, v, req))
	if err != nil {
		return err
	}
	answer, err := m.e.SealReply(now, v, protocol.CmdTunnelOpened, b)
	if err != nil {
		return err
	}
	_, err = c.Write(answer)
	return err
}
