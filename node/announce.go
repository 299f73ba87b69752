package node

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

const (
	// settle lets changes that come together (a network change moves addresses and homes) make one announcement.
	settle = 300 * time.Millisecond
	// announceRetry is the pause after an announcement that too few super-nodes took.
	announceRetry = 5 * time.Second
	// provisionalRetry is the pause after one that the operator alone took, half as much again at most: it must not be asked by
	// everybody every few seconds while super-nodes are away.
	provisionalRetry = 30 * time.Second
	farewellTime     = 2 * time.Second
)

// told is what the mesh was last told about this node.
type told struct {
	mu         sync.Mutex
	lookups    []protocol.Hash // keys of the last announcement
	candidates []protocol.Candidate
	left       []protocol.Hash // keys of locations that were left, still announced under for one record's life
	leftAt     time.Time
	active     bool

	order sync.Mutex // sequences are drawn in it, so that nothing comes after the withdrawal
	over  bool       // guarded by order
}

// errWithdrawn is an announcement that came too late.
var errWithdrawn = errors.New("the announcement has been withdrawn")

// sequence draws the next sequence of this node's NodeInfo; the last one is the withdrawal's.
func (m *membership) sequence(ctx context.Context, r *protocol.Record, floor uint64) (n uint64, err error) {
	m.told.order.Lock()
	defer m.told.order.Unlock()
	if m.told.over && !r.Tombstone {
		return 0, errWithdrawn
	}
	m.told.over = r.Tombstone
	if n, err = m.node.store.NextSequence(ctx, r.Table, r.Owner, floor); err != nil {
		return 0, fmt.Errorf("sequence: %w", err)
	}
	m.told.mu.Lock()
	defer m.told.mu.Unlock()
	m.told.active = !r.Tombstone // from here on it may reach somebody, whatever becomes of the answer
	return n, nil
}

// touch asks for an announcement soon: something it says has changed.
func (m *membership) touch() {
	poke(m.changed)
}

// touchAll is touch for what all memberships say.
func (n *Node) touchAll() {
	for _, m := range n.members() {
		m.touch()
	}
}

// announceLoop keeps the NodeInfo in the mesh current: at intervals, and when something changes.
func (m *membership) announceLoop(ctx context.Context) {
	t := time.NewTimer(settle)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			t.Reset(settle)
			continue
		case <-t.C:
		}
		next := m.node.cfg.Settings.AnnounceInterval.D()
		if err := m.announce(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			m.node.log.Info("not announced yet", "domain", m.domain.String(), "error", err)
			if next = min(next, announceRetry); errors.Is(err, dht.ErrProvisional) {
				next = min(m.node.cfg.Settings.AnnounceInterval.D(), provisionalRetry+rand.N(provisionalRetry/2))
			}
		}
		t.Reset(next)
	}
}

// candidatesLoop is announceLoop for a node that announces nothing: its tunnels look for better routes when it may be dialled
// itself by now.
func (m *membership) candidatesLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		}
		m.offered(m.node.candidates())
	}
}

// offered notes where this node says that it may be dialled. Where that has changed, tunnels look for better routes, at both ends.
func (m *membership) offered(l []protocol.Candidate) {
	m.told.mu.Lock()
	moved := !slices.Equal(m.told.candidates, l)
	m.told.candidates = l
	m.told.mu.Unlock()
	if moved {
		m.node.tunnels.Announced(m.domain)
	}
}

// announce signs a new NodeInfo and stores it under the node's key and its locations'.
func (m *membership) announce(ctx context.Context) error {
	v, err := m.nodeInfo()
	if err != nil {
		return err
	}
	if err = m.putNodeInfo(ctx, v, false); err == nil || errors.Is(err, dht.ErrProvisional) {
		m.offered(v.Candidates)
	}
	return err
}

// nodeInfo is where this node is now.
func (m *membership) nodeInfo() (protocol.NodeInfoValue, error) {
	_, name := m.names()
	v := protocol.NodeInfoValue{
		Name: name, Tunnel: m.node.cfg.Settings.Tunnel, Candidates: m.node.announcedCandidates(),
		Version: m.node.cfg.Version,
	}
	if m.keeps() {
		v.Homes = m.homes.ids()
		v.Homes = v.Homes[:min(len(v.Homes), protocol.MaxHomes)]
	}
	locations, err := m.locations()
	locations = slices.DeleteFunc(locations, func(l protocol.Hash) bool { return !m.announced(l) })
	v.Locations = locations[:min(len(locations), protocol.MaxLocations)]
	if len(v.Version) > 32 {
		v.Version = v.Version[:32]
	}
	return v, err
}

// putNodeInfo signs and stores v; gone makes it a tombstone.
func (m *membership) putNodeInfo(ctx context.Context, v protocol.NodeInfoValue, gone bool) error {
	now := m.node.meshNow()
	secrets, err := m.secrets(now)
	if err != nil {
		return err
	}
	r := &protocol.Record{
		Table: protocol.TableNodeInfo, Tombstone: gone, Owner: m.id(), Signer: m.id(),
		Issued: now, Expires: now.Add(m.node.cfg.Settings.RecordExpiry.D()), Lookups: m.lookups(secrets, v.Locations, now),
	}
	if !gone {
		plain, err := protocol.Marshal(v)
		if err != nil {
			return err
		}
		if r.Value, err = secrets.SealValue(crand.Reader, r.Table, r.Owner, plain); err != nil {
			return err
		}
	}
	// Never below the clock, so that a rebuilt node.db does not start under what super-nodes hold.
	floor := uint64(max(now.UnixMilli(), 1))
	if r.Sequence, err = m.sequence(ctx, r, floor); err != nil {
		return err
	}
	raw, err := protocol.SignRecord(r, m.keys.Signing)
	if err != nil {
		return err
	}
	return m.client.Store(ctx, raw)
}

// lookups are the keys of the locations, and for one record's life those of locations that were left, so that who looks there
// finds that it is gone.
func (m *membership) lookups(s *protocol.DomainSecrets, locations []protocol.Hash, now time.Time) []protocol.Hash {
	var l []protocol.Hash
	for _, loc := range locations {
		l = append(l, s.LocationKey(loc))
	}
	m.told.mu.Lock()
	defer m.told.mu.Unlock()
	if now.Sub(m.told.leftAt) > m.node.cfg.Settings.RecordExpiry.D() {
		m.told.left = nil
	}
	for _, k := range m.told.lookups {
		if !slices.Contains(l, k) && !slices.Contains(m.told.left, k) {
			m.told.left, m.told.leftAt = append(m.told.left, k), now
		}
	}
	m.told.lookups = slices.Clone(l)
	for _, k := range m.told.left {
		if len(l) < protocol.MaxLookups && !slices.Contains(l, k) {
			l = append(l, k)
		}
	}
	return l
}

// withdraw stores a tombstone, if anything was announced.
func (m *membership) withdraw(ctx context.Context) {
	m.told.order.Lock()
	m.told.over = true
	m.told.order.Unlock()
	m.told.mu.Lock()
	active := m.told.active
	m.told.active = false
	m.told.mu.Unlock()
	if !active {
		return
	}
	locations, err := m.locations()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	v := protocol.NodeInfoValue{Locations: locations[:min(len(locations), protocol.MaxLocations)]}
	if err := m.putNodeInfo(ctx, v, true); err != nil && !errors.Is(err, dht.ErrUnreachable) && !errors.Is(err, dht.ErrProvisional) {
		m.node.log.Info("announcement not withdrawn; it expires by itself", "domain", m.domain.String(), "error", err)
	}
}

// farewell withdraws everything that was announced, and what routers have opened, before a graceful stop.
func (n *Node) farewell() {
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.closeMapper() })
	for _, m := range n.members() {
		wg.Go(func() { m.withdraw(context.WithoutCancel(n.tasks.ctx)) })
	}
	wg.Wait()
}

// openNodeInfo opens the sealed value of a NodeInfo record whose signature has been checked.
func openNodeInfo(s *protocol.DomainSecrets, raw []byte) (v protocol.NodeInfoValue, err error) {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return v, err
	}
	if r.Table != protocol.TableNodeInfo || r.Tombstone {
		return v, dht.ErrNotFound
	}
	plain, err := s.OpenValue(r.Table, r.Owner, r.Value)
	if err != nil {
		return v, err
	}
	return v, protocol.Unmarshal(plain, &v)
}
