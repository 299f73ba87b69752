package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/portmap"
)

const (
	// reachTimeout is for a super-node's attempt to come through; reachAsked how many are asked in one go.
	reachTimeout = 5 * time.Second
	reachAsked   = 3
)

var errNobodyToAsk = errors.New("no super-node to ask yet")

// askReach has a super-node try to reach this node.
func (m *membership) askReach(ctx context.Context, to protocol.Peer, q protocol.ProbeReach) (protocol.Status, error) {
	v, err := m.call(ctx, to, q)
	if err != nil {
		return 0, fmt.Errorf("ask super-node %s: %w", to.ID.Short(), err)
	}
	r, err := protocol.ParsePayload[protocol.ReachProbed](v.Payload)
	if err != nil || v.Command != protocol.CmdReachProbed {
		return 0, fmt.Errorf("super-node %s answered %s", to.ID.Short(), v.Command)
	}
	return r.Status, nil
}

// dialledBack has super-nodes dial this node's TCP port at an address of its own from outside: nil when one of them got through.
// The question must come from that same address, so those of its family are asked.
func (n *Node) dialledBack(ctx context.Context, at netip.AddrPort) error {
	failure := errNobodyToAsk
	asked := 0
	for _, m := range n.members() {
		for _, peer := range m.verifiers(at.Addr()) {
			if asked++; asked > reachAsked {
				return failure
			}
			err := m.dialledBy(ctx, peer, at)
			if err == nil {
				return nil
			}
			failure = err
		}
	}
	return failure
}

// dialledBy has one super-node dial. Only portmap.ErrNotReached says something about the address.
func (m *membership) dialledBy(ctx context.Context, peer protocol.Peer, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	status, err := m.askReach(ctx, peer, protocol.ProbeReach{Addr: protocol.AddrOf(at), Protocol: protocol.TCP})
	switch {
	case err != nil:
		return err
	case status == protocol.StatusLimit || status == protocol.StatusInternal:
		return fmt.Errorf("super-node %s: %s", peer.ID.Short(), status)
	case status != protocol.StatusOK:
		return fmt.Errorf("%w: super-node %s: %s", portmap.ErrNotReached, peer.ID.Short(), status)
	}
	return nil
}

// verifiers are super-nodes at addresses of the family of a: the homes first, which are known to answer.
func (m *membership) verifiers(a netip.Addr) (l []protocol.Peer) {
	add := func(p protocol.Peer) {
		if slices.ContainsFunc(l, func(o protocol.Peer) bool { return o.ID == p.ID }) {
			return
		}
		for _, addr := range append([]netip.AddrPort{p.Addr}, m.mesh.addresses(p.ID)...) {
			if addr.IsValid() && familyOf(addr.Addr()) == familyOf(a) && !protocol.StreamsOnly(addr) {
				p.Addr = addr
				l = append(l, p)
				return
			}
		}
	}
	for _, h := range m.homes.snapshot() {
		if h.rtt > 0 {
			add(h.peer)
		}
	}
	if len(l) == 0 {
		return nil // nobody has answered yet, so nobody would now
	}
	for _, p := range m.peers() {
		add(p)
	}
	return l
}
