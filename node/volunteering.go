package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/node/volunteer"
	"culvert/protocol"
	"culvert/protocol/endpoint"
)

const (
	submitTimeout = 15 * time.Second
	// claimAgain is when a membership looks again that may not serve; it is told when it may.
	claimAgain = 10 * time.Minute
)

var errNoAddress = errors.New("no public address is known; name one with advertise in config.toml")

// claim makes a membership the one that may serve here: a process is one super-node at most.
func (n *Node) claim(m *membership) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.Extension != nil || n.claimed != nil && n.claimed != m {
		return false
	}
	n.claimed = m
	return true
}

// release lets another membership serve.
func (n *Node) release(m *membership) {
	n.mu.Lock()
	released := n.claimed == m
	if released {
		n.claimed = nil
	}
	n.mu.Unlock()
	if !released {
		return
	}
	for _, other := range n.members() {
		if other != m {
			poke(other.offerNow)
		}
	}
}

// retire has the node serve no more. What it holds stays in its database.
func (n *Node) retire(s *serving) error {
	if s == nil || !n.serving.CompareAndSwap(s, nil) {
		return nil
	}
	return s.stop()
}

// volunteer makes this membership's identity a super-node's where it is to be one from the start: the configuration asks for
// it, or the map names it since an earlier run.
func (m *membership) volunteer() error {
	set := m.node.cfg.Settings
	if !set.Super && (!set.Volunteer || !m.inMap()) || !m.node.claim(m) {
		return nil
	}
	return m.serve()
}

func (m *membership) serve() error {
	if s := m.node.serving.Load(); s != nil {
		return nil
	}
	return m.node.serve(m.mesh, m.id(), m.keys, m.certificate, false)
}

// serves is what this membership serves with, nil for nothing.
func (m *membership) serves() *serving {
	if s := m.node.serving.Load(); s != nil && s.id == m.id() {
		return s
	}
	return nil
}

func (m *membership) mode() volunteer.Mode {
	switch set := m.node.cfg.Settings; {
	case set.Super:
		return volunteer.Asked
	case set.Volunteer:
		return volunteer.Auto
	}
	return volunteer.Never
}

// offerLoop offers this node to the operator as the machine says.
func (m *membership) offerLoop(ctx context.Context) {
	mc := volunteer.New(volunteer.Config{
		Mode: m.mode(), Settle: m.node.cfg.Settings.VolunteerAfter.D(), Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	})
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-m.offerNow:
		}
		next := m.offerStep(ctx, mc)
		t.Reset(max(next.Sub(m.node.now()), 10*time.Millisecond))
	}
}

// offerStep does one thing, and says when to look again.
func (m *membership) offerStep(ctx context.Context, mc *volunteer.Machine) time.Time {
	n, now := m.node, m.node.now()
	if m.mode() != volunteer.Never && !n.claim(m) {
		return now.Add(claimAgain)
	}
	if m.barred() != nil {
		n.release(m)
		return now.Add(claimAgain)
	}
	if m.mode() == volunteer.Asked { // another membership may have left since
		if err := m.serve(); err != nil {
			n.log.Error("cannot serve as super-node", "domain", m.domain.String(), "error", err)
		}
	}
	v := volunteer.View{Serving: m.serves() != nil, Addresses: m.addresses()}
	if pm := m.mesh.pmap.Load(); pm != nil {
		if mem, ok := pm.Member(m.id()); ok {
			v.Listed, v.Map = true, mem.Addresses
		}
	}
	act, next := mc.Step(now, v)
	switch act {
	case volunteer.Prove:
		reached := n.reachedAt(ctx, v.Addresses)
		n.log.Debug("looked whether others come through", "addresses", v.Addresses, "reached", reached)
		mc.Proved(n.now(), reached)
	case volunteer.Offer:
		m.offer(ctx, mc, mc.Offered(), v.Listed)
	case volunteer.Withdraw:
		m.offer(ctx, mc, nil, v.Listed)
	case volunteer.Retire:
		n.log.Info("no longer a super-node: the operator does not list this node", "domain", m.domain.String())
		if err := n.retire(m.serves()); err != nil {
			n.log.Warn("super-node not ended cleanly", "error", err)
		}
	case volunteer.Wait:
		if mc.Refused() && !v.Listed && !v.Serving {
			n.release(m) // another membership may have an operator that wants the node
		}
		return next
	}
	return n.now()
}

// offer submits addresses, and serves at them once the operator has come through.
func (m *membership) offer(ctx context.Context, mc *volunteer.Machine, at []netip.AddrPort, listed bool) {
	n := m.node
	outcome, err := volunteer.Silence, errNoAddress
	if len(at) > 0 || m.mode() == volunteer.Never {
		outcome, err = m.submit(ctx, at)
	}
	if err == nil && len(at) > 0 {
		err = m.serve()
	}
	if ctx.Err() != nil {
		return
	}
	switch {
	case err == nil && len(at) > 0 && !listed:
		n.log.Info("taken in as super-node", "domain", m.domain.String(), "addresses", at)
	case err != nil && m.mode() == volunteer.Asked:
		n.log.Warn("not taken in as super-node", "error", err)
	case err != nil:
		n.log.Info("not taken in as super-node", "error", err)
	}
	mc.Answered(n.now(), outcome, listed)
	m.refresh()
}

// submit tells the operators where this node serves, or, without an address, that it does not.
func (m *membership) submit(ctx context.Context, at []netip.AddrPort) (volunteer.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	offer := protocol.SubmitSuperNode{Capacity: uint64(m.node.cfg.Settings.Limits.RelayRate)}
	for _, a := range at[:min(len(at), protocol.MaxAddresses)] {
		offer.Addresses = append(offer.Addresses, protocol.AddrOf(a))
	}
	err := error(endpoint.ErrNoRoute)
	for _, op := range m.mesh.contacts() {
		var v *protocol.Verified
		if v, err = m.call(ctx, op, offer); err != nil {
			continue
		}
		var s protocol.SuperNodeSubmitted
		if s, err = protocol.ParsePayload[protocol.SuperNodeSubmitted](v.Payload); err != nil || v.Command != protocol.CmdSuperNodeSubmitted {
			err = fmt.Errorf("operator answered %s", v.Command)
			continue
		}
		switch s.Status {
		case protocol.StatusOK:
			return volunteer.Taken, nil
		case protocol.StatusUnreachable:
			return volunteer.Unproven, fmt.Errorf("operator says %s: %s", s.Status, s.Reason)
		case protocol.StatusInternal:
			return volunteer.Silence, fmt.Errorf("operator says %s", s.Status)
		}
		return volunteer.Refused, fmt.Errorf("operator says %s: %s", s.Status, s.Reason)
	}
	return volunteer.Silence, err
}

// reachedAt are those of the addresses at which a super-node, or the operator, gets through to this node's TCP port.
func (n *Node) reachedAt(ctx context.Context, l []netip.AddrPort) []netip.AddrPort {
	reached := make([]bool, len(l))
	var work sync.WaitGroup
	for i, a := range l {
		work.Go(func() { reached[i] = n.dialledBack(ctx, a) == nil })
	}
	work.Wait()
	var out []netip.AddrPort
	for i, a := range l {
		if reached[i] {
			out = append(out, a)
		}
	}
	return out
}

// reachChanged has the memberships look at once whether this node's addresses are still those that it offers.
func (n *Node) reachChanged() {
	for _, m := range n.members() {
		poke(m.offerNow)
	}
}

// followEvery bounds how seldom a serving node asks others where they see it: a changed address is to be in the map in a minute.
const followEvery = 20 * time.Second

// sortedAddresses makes one list of what was found in any order.
func sortedAddresses(l []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(l, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return slices.Compact(l)
}
