package tunnel

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"time"

	"culvert/protocol"
)

// Resolver.
func (a *agent) Device(ctx context.Context, d protocol.Domain, ref string) (Device, error) {
	if err := a.mesh(ctx); err != nil {
		return Device{}, err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	for _, dev := range a.w.devices {
		if dev.ID.Domain() == d && (dev.ID.String() == ref || dev.Value.Name == ref) {
			return dev, nil
		}
	}
	return Device{}, ErrUnknownDevice
}

// mesh waits until the mesh answers.
func (a *agent) mesh(ctx context.Context) error {
	a.w.mu.Lock()
	stuck := a.stuck
	a.w.mu.Unlock()
	if stuck == nil {
		return nil
	}
	select {
	case <-stuck:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *agent) TunnelNodes(ctx context.Context, d Device) ([]Target, error) {
	if err := a.mesh(ctx); err != nil {
		return nil, err
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	var l []Target
	for _, id := range a.w.targets[d.ID] {
		n := a.w.agents[id]
		info := protocol.NodeInfoValue{Tunnel: true, Locations: []protocol.Hash{n.place}}
		if !n.isolated {
			info.Candidates = n.candidates()
		}
		l = append(l, Target{Node: n.node, Info: info})
	}
	return l, nil
}

func (a *agent) Certified(_ context.Context, id protocol.ID) (*protocol.CertifiedNode, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if n := a.w.agents[id]; n != nil {
		return n.node, nil
	}
	return nil, errors.New("unknown node")
}

// Locator.
func (a *agent) Locations(protocol.Domain) []protocol.Hash {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	return []protocol.Hash{a.place}
}

// moveTo puts the agent at another location.
func (a *agent) moveTo(place byte) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.place = protocol.Hash{place}
}

func (a *agent) FindMAC(_ context.Context, mac [6]byte) (netip.Addr, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if addr, ok := a.macs[mac]; ok {
		return addr, nil
	}
	return netip.Addr{}, errors.New("not on the link")
}

func (a *agent) Distrust(mac [6]byte, _ netip.Addr) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.doubts++
}

func (a *agent) OnLink(addr netip.Addr) bool {
	for _, p := range a.own {
		if p.Contains(addr) && p.Addr() != addr {
			return true
		}
	}
	return false
}

func (a *agent) Neighbour(addr netip.Addr) ([6]byte, bool) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	for mac, at := range a.macs {
		if at == addr {
			return mac, true
		}
	}
	return [6]byte{}, false
}

func (a *agent) Own() []netip.Prefix { return a.own }

// Signaler.
func (a *agent) Request(ctx context.Context, local protocol.ID, to Target, req protocol.TunnelRequest) (protocol.TunnelOpened, protocol.Hash, error) {
	raw := make([]byte, 64)
	_, _ = rand.Read(raw)
	hash := protocol.Hash(sha256.Sum256(raw))
	a.w.mu.Lock()
	n := a.w.agents[to.Node.ID]
	a.requests = append(a.requests, hash)
	a.w.mu.Unlock()
	if n.deaf {
		<-ctx.Done()
		return protocol.TunnelOpened{}, hash, ctx.Err()
	}
	v := &protocol.Verified{Receiver: to.Node.ID, Sender: local, Command: protocol.CmdTunnelRequest, Raw: raw, Node: a.node}
	if c := a.further[local]; c != nil {
		v.Node = c
	}
	answer := n.HandleRequest(ctx, time.Now(), v, req)
	if n.isolated {
		answer.Candidates = nil
	}
	return answer, hash, nil
}

func (a *agent) Relays(context.Context, protocol.ID, Target) ([]protocol.Peer, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	var l []protocol.Peer
	for _, r := range a.w.relays {
		l = append(l, r.peer)
	}
	return l, nil
}

func (a *agent) Relay(_ context.Context, _, id protocol.ID) (protocol.Peer, error) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	for _, r := range a.w.relays {
		if r.peer.ID == id {
			return r.peer, nil
		}
	}
	return protocol.Peer{}, errors.New("no such super-node")
}

func (a *agent) SealRelayJoin(local protocol.ID, _ protocol.Peer, j protocol.RelayJoin) ([]byte, error) {
	b, err := protocol.Marshal(j)
	return append(append([]byte(nil), local[:]...), b...), err
}

var (
	_ Resolver = (*agent)(nil)
	_ Locator  = (*agent)(nil)
	_ Signaler = (*agent)(nil)
)
