package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
	"culvert/tunnel"
)

const (
	submitFirst   = time.Second
	submitLast    = 5 * time.Minute
	submitTimeout = 15 * time.Second
	submitStreams = 15 * time.Minute
)

// serving is the one identity of this process that others ask for records: a super-node's, or the operator's.
type serving struct {
	id      protocol.ID
	former  protocol.ID // answers, too, and asks nothing; zero for none
	cert    func() *protocol.CertifiedNode
	server  *dht.Server
	replica atomic.Pointer[dht.Replica] // set once it has started
	routes  routes

	snapshotTLS *tls.Config
	snapshots   chan struct{} // as many as are being served
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
		OnTransfer: func(uint64) { n.refreshAll() },
	}, n.now())
	if err != nil {
		return fmt.Errorf("serve records: %w", err)
	}
	sv.routes.add(sv.server, sv.server.Cached)
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

// refreshAll has every membership ask for the map at once.
func (n *Node) refreshAll() {
	for _, m := range n.members() {
		m.refresh()
	}
}

// volunteer makes the first membership's identity a super-node's, if the configuration says so and nobody serves yet.
func (m *membership) volunteer() error {
	n := m.node
	if !n.cfg.Settings.Super || n.serving.Load() != nil {
		return nil
	}
	if err := n.serve(m.mesh, m.id(), m.keys, m.certificate, false); err != nil {
		return err
	}
	m.tasks.start(m.submitLoop)
	return nil
}

// submitLoop offers this node to the operator whenever the map does not name it.
func (m *membership) submitLoop(ctx context.Context) {
	wait := submitFirst
	var again time.Time // until then an address for streams that the operator did not reach is not offered anew
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if pm := m.mesh.pmap.Load(); pm != nil {
			if mem, ok := pm.Member(m.id()); ok && (m.offersOnly(mem.Addresses, false) && m.node.now().Before(again) || m.offersOnly(mem.Addresses, true)) {
				wait = submitFirst
				t.Reset(10 * time.Second)
				continue
			}
		}
		if err := m.submit(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			m.node.log.Warn("not taken in as super-node", "error", err)
			t.Reset(wait + rand.N(wait/2))
			wait = min(2*wait, submitLast)
			continue
		}
		again = m.node.now().Add(submitStreams)
		m.refresh()
		t.Reset(submitFirst)
	}
}

// offersOnly reports whether the map has this node's current addresses; streams: those for streams alone, too.
func (m *membership) offersOnly(have []netip.AddrPort, streams bool) bool {
	for _, a := range m.addresses() {
		if !streams && protocol.StreamsOnly(a.AddrPort) {
			continue
		}
		found := false
		for _, h := range have {
			found = found || h == a.AddrPort
		}
		if !found {
			return false
		}
	}
	return true
}

func (m *membership) submit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	offer := protocol.SubmitSuperNode{Addresses: m.addresses(), Capacity: uint64(m.node.cfg.Settings.Limits.RelayRate)}
	if len(offer.Addresses) == 0 {
		return fmt.Errorf("no public address is known; name one with advertise in config.toml")
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
		if s.Status != protocol.StatusOK {
			return fmt.Errorf("operator says %s: %s", s.Status, s.Reason)
		}
		return nil
	}
	return err
}

// addresses are where this node believes to be reachable from everywhere: what it was told to advertise, the one address it
// listens on, its public addresses, or how its super-nodes and operators see it.
func (m *membership) addresses() []protocol.Addr { return m.node.withStreams(m.messageAddresses()) }

func (m *membership) messageAddresses() []protocol.Addr {
	n := m.node
	b := n.bound()
	var l []protocol.Addr
	add := func(a netip.AddrPort) {
		if len(l) < protocol.MaxAddresses {
			l = append(l, protocol.AddrOf(a))
		}
	}
	for _, s := range n.cfg.Settings.Advertise {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, strconv.Itoa(int(b.Port()))
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(m.tasks.ctx, "ip", host)
		if err != nil {
			n.log.Warn("advertised name not resolved", "name", host, "error", err)
		}
		for _, ip := range ips {
			add(netip.AddrPortFrom(ip.Unmap(), uint16(p)))
		}
	}
	if len(l) > 0 {
		return l
	}
	if a := b.Addr(); a.IsValid() && !a.IsUnspecified() {
		add(b)
		return l
	}
	for _, p := range n.ownPrefixes() {
		if tunnel.Public(p.Addr()) {
			add(netip.AddrPortFrom(p.Addr(), b.Port()))
		}
	}
	for _, h := range m.homes.snapshot() {
		if len(l) == 0 && h.seen.IsValid() && h.seen.Port() == b.Port() {
			add(h.seen.AddrPort)
		}
	}
	return l
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
