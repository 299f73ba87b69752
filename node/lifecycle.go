package node

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel"
)

// prepare gives a loaded membership what it asks others with.
func (m *membership) prepare() {
	n := m.node
	m.mesh.mu.RLock()
	root := m.mesh.rootKey
	m.mesh.mu.RUnlock()
	m.client = dht.NewClient(dht.ClientConfig{
		Caller: &caller{n, m.id()}, Self: m.id(), Trust: m.mesh.trust, RootKey: root, Store: n.store,
		// A super-node of this process is asked without a packet; see caller.
		IsSelf:  func(protocol.ID) bool { return false },
		Revoked: m.mesh.isRevoked, Scores: m.mesh.scores, Now: n.meshNow, Timeout: n.cfg.Network.Wave,
		Seed:  [2]uint64{rand.Uint64(), rand.Uint64()},
		OnMap: func(p *partition.Map) { m.mesh.installMap(p) },
	})
	if p := m.mesh.pmap.Load(); p != nil {
		m.client.SetMap(p)
	}
}

// mapChanged follows a map that another membership, or the server, has learned.
func (m *membership) mapChanged(p *partition.Map) {
	m.client.SetMap(p)
	m.pingNow()
	if !m.trusted() {
		m.wantRenewal()
	}
	if m.serves() != nil {
		poke(m.offerNow) // it may have left the map
	}
	if err := m.keep(); err != nil {
		m.node.log.Warn("membership not saved", "domain", m.domain.String(), "error", err)
	}
}

// start runs the membership's loops.
func (m *membership) start() {
	if err := m.loadRevocations(); err != nil {
		m.node.log.Warn("revocations not loaded", "domain", m.domain.String(), "error", err)
	}
	if err := m.volunteer(); err != nil {
		m.node.log.Error("cannot serve as super-node", "domain", m.domain.String(), "error", err)
	}
	if m.node.cfg.Extension == nil {
		m.tasks.start(m.offerLoop)
	}
	m.node.carrierEvent(carrier.EventDoubt)
	m.tasks.start(m.homesLoop)
	if !m.node.cfg.Settings.Tunnel {
		m.tasks.start(m.candidatesLoop)
	}
	m.tasks.start(m.refreshLoop)
	m.tasks.start(m.chainLoop)
	m.tasks.start(m.renewLoop)
	if m.node.cfg.Settings.Tunnel {
		m.tasks.start(m.announceLoop)
		m.tasks.start(m.keeperLoop)
	}
}

// stop ends the loops and waits for them.
func (m *membership) stop() {
	m.tasks.cancel()
	m.client.Close()
	m.tasks.stop()
}

func (n *Node) startMemberships() {
	l := n.members()
	slices.SortFunc(l, func(a, b *membership) int {
		if x, y := a.inMap(), b.inMap(); x != y {
			if x {
				return -1 // the one that the map names goes on being the super-node
			}
			return 1
		}
		return cmp.Compare(a.domain, b.domain)
	})
	for _, m := range l {
		m.start()
	}
	if len(l) == 0 && n.cfg.Extension == nil {
		n.log.Info("this agent is in no domain yet; run: culvert join TOKEN")
	}
}

// inMap reports whether the map names this membership as a super-node.
func (m *membership) inMap() bool {
	pm := m.mesh.pmap.Load()
	if pm == nil {
		return false
	}
	_, ok := pm.Member(m.id())
	return ok
}

// call asks a peer as this membership.
func (m *membership) call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	return (&caller{m.node, m.id()}).Call(ctx, to, p)
}

// state says what the membership is good for at a time.
func (m *membership) state(now time.Time) string {
	switch {
	case m.mesh.isRevoked(protocol.NewID(m.domain, protocol.Hash{})):
		return "banned"
	case m.mesh.isRevoked(m.id()):
		return "revoked"
	case !now.Before(m.certificate().Expires):
		return "expired"
	}
	return "active"
}

// barred says why nobody answers this membership any more, where the operator has ended it.
func (m *membership) barred() error {
	domain, _ := m.names()
	switch m.state(m.node.meshNow()) {
	case "banned":
		return fmt.Errorf("%w: the operator has banned the domain %s", tunnel.ErrRevoked, domain)
	case "revoked":
		return fmt.Errorf("%w: the operator no longer admits this node to the domain %s", tunnel.ErrRevoked, domain)
	}
	return nil
}
