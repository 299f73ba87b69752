package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/tunnel"
)

// signaler exchanges the messages that come before a link. It implements tunnel.Signaler.
type signaler struct{ n *Node }

var _ tunnel.Signaler = signaler{}

var errNotForwarded = errors.New("none of the tunnel-node's super-nodes can reach it now")

// asking are the TunnelRequests under way by their hash.
type asking struct {
	mu      sync.Mutex
	waiting map[protocol.Hash]awaited
}

// awaited is who alone may answer, and who waits for it: the super-nodes on the way know a request's hash too.
type awaited struct {
	from protocol.ID
	to   chan<- forwardedAnswer
}

type forwardedAnswer struct {
	from   protocol.ID
	opened protocol.TunnelOpened
	hash   protocol.Hash
}

// add has the answer of from to the request of this hash sent to ch, until the returned function is called.
func (a *asking) add(h protocol.Hash, from protocol.ID, ch chan<- forwardedAnswer) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[h] = awaited{from, ch}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.waiting, h)
	}
}

func (a *asking) answer(f forwardedAnswer) bool {
	a.mu.Lock()
	w, ok := a.waiting[f.hash]
	if ok = ok && w.from == f.from; ok {
		delete(a.waiting, f.hash)
	}
	a.mu.Unlock()
	if ok {
		w.to <- f // has room for one of each request
	}
	return ok
}

// ask sends the request to the tunnel-node itself: a node's UDP port has the number of its TCP port.
func (s signaler) ask(ctx context.Context, m *membership, to tunnel.Target, req protocol.TunnelRequest) (protocol.TunnelOpened, error) {
	here, err := m.locations()
	if err != nil {
		return protocol.TunnelOpened{}, err
	}
	near := slices.ContainsFunc(to.Info.Locations, func(l protocol.Hash) bool { return slices.Contains(here, l) })
	err = errNotForwarded
	for _, c := range to.Info.Candidates {
		a := c.Addr.AddrPort
		if c.Protocol != protocol.TCP || !a.IsValid() || !s.n.isPublic(a.Addr()) && !(near && a.Addr().IsPrivate()) {
			continue
		}
		inner, cancel := context.WithTimeout(ctx, forwardWait)
		var v *protocol.Verified
		v, err = m.call(inner, protocol.Peer{ID: to.Node.ID, Signing: to.Node.Signing, Sealing: to.Node.Sealing, Addr: a}, req)
		cancel()
		if err != nil {
			continue
		}
		if v.Command != protocol.CmdTunnelOpened {
			return protocol.TunnelOpened{}, fmt.Errorf("the tunnel-node answered %s", v.Command)
		}
		return protocol.ParsePayload[protocol.TunnelOpened](v.Payload)
	}
	return protocol.TunnelOpened{}, err
}

// homes are where the target says that it can be reached; super-nodes of the map only, those that failed lately last.
func (s signaler) homes(m *membership, to tunnel.Target) ([]protocol.Peer, error) {
	var l []protocol.Peer
	for _, id := range to.Info.Homes {
		if p, ok := m.mesh.member(id); ok && !m.mesh.isRevoked(id) {
			l = append(l, p)
		}
	}
	if len(l) == 0 {
		return nil, errNotForwarded
	}
	m.suspectsLast(l)
	return l, nil
}

// suspectsLast moves the super-nodes that did not answer lately behind the others.
func (m *membership) suspectsLast(l []protocol.Peer) {
	now := m.node.meshNow()
	slices.SortStableFunc(l, func(a, b protocol.Peer) int {
		return compareBool(m.mesh.scores.Suspect(a.ID, now), m.mesh.scores.Suspect(b.ID, now))
	})
}

// forward hands a request to a home, or to this process itself where it is the home.
func (s signaler) forward(ctx context.Context, m *membership, home protocol.Peer, target protocol.ID, raw []byte) error {
	inner, cancel := context.WithTimeout(ctx, forwardWait)
	defer cancel()
	v, err := m.call(inner, home, protocol.ForwardedTunnelRequest{Target: target, Request: raw, Node: m.certificate().Record})
	if err != nil {
		if errors.Is(err, endpoint.ErrTimeout) && ctx.Err() == nil {
			m.mesh.scores.Bad(home.ID, m.node.meshNow())
		}
		return fmt.Errorf("super-node %s: %w", home.ID.Short(), err)
	}
	f, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](v.Payload)
	if err != nil || v.Command != protocol.CmdForwardedTunnelOpened {
		return fmt.Errorf("super-node %s answered %s", home.ID.Short(), v.Command)
	}
	if f.Status != protocol.StatusOK {
		return fmt.Errorf("super-node %s: the tunnel-node is %s", home.ID.Short(), f.Status)
	}
	return nil
}

// Relays implements tunnel.Signaler: the target's homes first, then other super-nodes.
func (s signaler) Relays(ctx context.Context, local protocol.ID, to tunnel.Target) ([]protocol.Peer, error) {
	m, ok := s.n.member(local.Domain())
	if !ok {
		return nil, tunnel.ErrNoMembership
	}
	var l []protocol.Peer
	seen := make(map[protocol.ID]bool)
	add := func(p protocol.Peer) {
		if !seen[p.ID] && p.ID.Domain() != protocol.OperatorDomain {
			seen[p.ID] = true
			l = append(l, s.n.reach(p))
		}
	}
	if homes, err := s.homes(m, to); err == nil {
		for _, p := range homes {
			add(p)
		}
	}
	for _, p := range m.peers() {
		add(p)
	}
	m.suspectsLast(l)
	return m.withOperators(s.n.carriedFirst(l)), nil
}

// Relay implements tunnel.Signaler.
func (s signaler) Relay(_ context.Context, local, id protocol.ID) (protocol.Peer, error) {
	m, ok := s.n.member(local.Domain())
	if !ok {
		return protocol.Peer{}, tunnel.ErrNoMembership
	}
	p, ok := m.mesh.member(id)
	if !ok { // an operator relays only where it says so itself
		return protocol.Peer{}, fmt.Errorf("%s is no super-node of the map", id.Short())
	}
	return s.n.reach(p), nil
}

// SealRelayJoin implements tunnel.Signaler.
func (s signaler) SealRelayJoin(local protocol.ID, relay protocol.Peer, join protocol.RelayJoin) ([]byte, error) {
	b, err := protocol.AppendPayload(nil, join)
	if err != nil {
		return nil, err
	}
	return s.n.ep.SealSigned(s.n.now(), local, relay, join.Command(), b)
}

// forwardedRequest is either for this node as tunnel-node, or to be handed on as super-node.
func (n *Node) forwardedRequest(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.ForwardedTunnelRequest](v.Payload)
	if err != nil {
		n.drops.add("malformed")
		return nil
	}
	if m.Target != v.Receiver {
		if s := n.serving.Load(); s != nil && s.is(v.Receiver) {
			return n.forward.request(now, v)
		}
		n.drops.add("not a super-node")
		return nil
	}
	if !n.isSuperNode(v.Receiver, v.Sender) {
		n.drops.add("not from a super-node")
		return nil
	}
	inner, err := n.ep.VerifyDetached(now, m.Request, m.Node)
	if err != nil || inner.Command != protocol.CmdTunnelRequest || inner.Receiver != v.Receiver {
		n.drops.add("forwarded request")
		return nil
	}
	opened, ok := n.opened(now, inner)
	if !ok {
		return nil
	}
	b, err := protocol.AppendPayload(nil, opened)
	if err != nil {
		return nil
	}
	raw, err := n.ep.SealReply(now, inner, opened.Command(), b)
	if err != nil {
		return nil
	}
	cert, err := n.certificateOf(v.Receiver)
	if err != nil {
		return nil
	}
	out := protocol.ForwardedTunnelOpened{Answer: raw, Cookie: m.Cookie, Node: cert.Record}
	if b, err = protocol.AppendPayload(nil, out); err != nil {
		return nil
	}
	return []protocol.Out{{To: v.Sender, Command: out.Command(), Payload: b}}
}

// tunnelRequest is a request that came directly.
func (n *Node) tunnelRequest(now time.Time, v *protocol.Verified) []protocol.Out {
	opened, ok := n.opened(now, v)
	if !ok {
		return nil
	}
	return protocol.Reply(opened)
}

// opened lets the tunnels decide. Strangers of another domain get silence.
func (n *Node) opened(now time.Time, v *protocol.Verified) (protocol.TunnelOpened, bool) {
	if v.Sender.Domain() != v.Receiver.Domain() {
		n.drops.add("foreign domain")
		return protocol.TunnelOpened{}, false
	}
	req, err := protocol.ParsePayload[protocol.TunnelRequest](v.Payload)
	if err != nil || v.Raw == nil {
		n.drops.add("malformed")
		return protocol.TunnelOpened{}, false
	}
	return n.tunnels.HandleRequest(n.tasks.ctx, now, v, req), true
}

// forwardedOpened is either an answer for this node, or to be handed on as super-node.
func (n *Node) forwardedOpened(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](v.Payload)
	if err != nil {
		n.drops.add("malformed")
		return nil
	}
	if len(m.Cookie) > 0 {
		if s := n.serving.Load(); s != nil && s.is(v.Receiver) {
			return n.forward.answer(now, v)
		}
		n.drops.add("not a super-node")
		return nil
	}
	inner, err := n.ep.VerifyDetached(now, m.Answer, m.Node)
	if err != nil || inner.Command != protocol.CmdTunnelOpened || inner.Sender.Domain() != inner.Receiver.Domain() {
		n.drops.add("forwarded answer")
		return nil
	}
	opened, err := protocol.ParsePayload[protocol.TunnelOpened](inner.Payload)
	if err != nil {
		n.drops.add("malformed")
		return nil
	}
	if !n.asking.answer(forwardedAnswer{inner.Sender, opened, opened.Request}) {
		n.drops.add("unasked answer")
	}
	return nil
}

// isSuperNode reports whether id is in the map of the mesh that the local identity belongs to.
func (n *Node) isSuperNode(local, id protocol.ID) bool {
	m, ok := n.member(local.Domain())
	if !ok {
		return false
	}
	_, ok = m.mesh.member(id)
	return ok
}

// verifyJoin proves a RelayJoin that came on a stream.
func (n *Node) verifyJoin(raw []byte) (*protocol.Verified, protocol.RelayJoin, error) {
	v, err := n.ep.VerifyCarrying(n.now(), raw, func(payload []byte) []byte {
		j, err := protocol.ParsePayload[protocol.RelayJoin](payload)
		if err != nil {
			return nil
		}
		return j.Node
	})
	if err != nil {
		return nil, protocol.RelayJoin{}, err
	}
	s := n.serving.Load()
	if v.Command != protocol.CmdRelayJoin || s == nil || !s.is(v.Receiver) {
		return nil, protocol.RelayJoin{}, endpoint.ErrIdentity
	}
	j, err := protocol.ParsePayload[protocol.RelayJoin](v.Payload)
	return v, j, err
}
