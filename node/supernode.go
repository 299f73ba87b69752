package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// serving is the one identity of this process that others ask for records: a super-node's, or the operator's.
type serving struct {
	id      protocol.ID
	former  protocol.ID // answers, too, and asks nothing; zero for none
	cert    func() *protocol.CertifiedNode
	server  *dht.Server
	replica atomic.Pointer[dht.Replica] // set once it has started
	routes  routes

	reads, puts *lane

	snapshotTLS *tls.Config
	snapshots   chan struct{} // as many as are being served

	notified atomic.Pointer[partition.Map] // of whose members have heard; the operator's
}

// is reports whether a message to id is for what is served here.
func (s *serving) is(id protocol.ID) bool { return s.id == id || s.former == id && !id.IsZero() }

// serve makes an identity the serving one. What the server learns from records reaches the rest of the node.
func (n *Node) serve(s *mesh, id protocol.ID, keys *key.Pair, cert func() *protocol.CertifiedNode, operator bool) error {
	s.mu.RLock()
	root := s.rootKey
	s.mu.RUnlock()
	sv := &serving{id: id, cert: cert, snapshots: make(chan struct{}, snapshotsAtOnce)}
	var err error
	if sv.snapshotTLS, err = snapshotTLS(keys.Signing); err != nil {
		return err
	}
	sv.server, err = dht.NewServer(dht.Config{
		Self: id, Store: n.store, Trust: s.trust, RootKey: root, Operator: operator,
		OnRevocation: func(r *protocol.Record, _ protocol.RevocationValue) { s.takeRevocation(r, n.meshNow()) },
		OnMap:        func(m *partition.Map) { s.installMap(m); sv.mapChanged() },
		OnConflict: func(r *protocol.Record) {
			n.log.Warn("two records of one version", "table", r.Table, "owner", r.Owner.Short())
		},
		OnTransfer: func(epoch uint64) { n.refreshAll(epoch) },
	}, n.now())
	if err != nil {
		return fmt.Errorf("serve records: %w", err)
	}
	sv.routes.add(sv.server, sv.server.Cached)
	sv.openLanes(n)
	// Forwarding is common to all; it checks for itself who serves.
	n.serving.Store(sv)
	if m := sv.server.Map(); m != nil {
		s.installMap(m)
	} else if m := s.pmap.Load(); m != nil {
		n.applyMap(m)
	}
	s.follow(n, n.applyMap)
	replica, err := dht.StartReplica(dht.ReplicaConfig{
		Server: sv.server, Store: n.store, Caller: &caller{n, id}, Self: id, Now: n.meshNow,
		Own: n.isLocal, Dial: sv.dialSnapshots(n),
		Seed:    [2]uint64{rand.Uint64(), rand.Uint64()},
		OnError: func(err error) { n.log.Debug("replica", "error", err) },
	})
	if err != nil {
		return err
	}
	sv.replica.Store(replica)
	replica.MapChanged() // it may have changed while nobody could be told
	return nil
}

// stop ends the replica and waits for it.
func (s *serving) stop() error {
	if r := s.replica.Swap(nil); r != nil {
		return r.Close()
	}
	return nil
}

func (s *serving) mapChanged() {
	if r := s.replica.Load(); r != nil {
		r.MapChanged()
	}
}

// applyMap has the server hold the records of a map that this node learned as a reader.
func (n *Node) applyMap(m *partition.Map) {
	s := n.serving.Load()
	if s == nil {
		return
	}
	if have := s.server.Map(); have != nil && have.Epoch() >= m.Epoch() {
		return
	}
	records := make([][]byte, 0, len(m.Members())+1)
	for _, mem := range m.Members() {
		records = append(records, mem.Record)
	}
	records = append(records, m.Head())
	n.tasks.start(func(ctx context.Context) {
		if _, err := s.server.Apply(ctx, n.meshNow(), records); err != nil && ctx.Err() == nil {
			n.log.Warn("map not stored", "error", err)
		}
		s.server.Install(m)
		s.mapChanged()
	})
}

// refreshAll has every membership ask at once for the map, of which an operator has said that there is one of this epoch.
func (n *Node) refreshAll(epoch uint64) {
	for _, m := range n.members() {
		m.mapWanted.Store(max(m.mapWanted.Load(), epoch))
		m.refresh()
	}
}

// roles are what this process does for others.
func (n *Node) roles() []string {
	l := []string{"user"}
	if n.cfg.Settings.Tunnel {
		l = append(l, "tunnel")
	}
	if s := n.serving.Load(); s != nil && s.server.Ready() {
		if m := s.server.Map(); m != nil {
			if mem, ok := m.Member(s.id); ok && mem.Range.Valid() && s.id.Domain() != protocol.OperatorDomain {
				l = append(l, "super")
			}
		}
		if s.id.Domain() == protocol.OperatorDomain {
			l = append(l, "operator")
		}
	}
	return l
}
