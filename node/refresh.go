package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

const (
	// While this node is an end of a live tunnel it asks often, so that a revoked end closes within ten seconds; else within
	// ten minutes.
	refreshBusy = 5 * time.Second
	refreshIdle = 4 * time.Minute
	// While the operator alone is known, super-nodes are soon to come.
	refreshAlone = 10 * time.Second
	mapEvery     = time.Minute
)

// refreshLoop asks for revocations and for the partition map.
func (m *membership) refreshLoop(ctx context.Context) {
	var mapAsked time.Time
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.refreshNow:
			mapAsked = time.Time{}
		case <-m.askNow:
		case <-t.C:
		}
		if now := m.node.now(); now.Sub(mapAsked) >= mapEvery {
			mapAsked = now
			if err := m.client.RefreshMapTo(ctx, m.mapWanted.Load()); err != nil && ctx.Err() == nil {
				m.node.log.Debug("partition map not asked for", "domain", m.domain.String(), "error", err)
			}
		}
		if err := m.askRevocations(ctx); err != nil && ctx.Err() == nil {
			m.node.log.Debug("revocations not asked for", "domain", m.domain.String(), "error", err)
		}
		// Drawn anew each time, so that a fleet that started together does not ask together.
		next := refreshIdle + rand.N(refreshIdle/4)
		if m.serves() != nil {
			next = mapEvery + rand.N(mapEvery/4) // it may not be a member any more
		}
		if !m.mesh.hasSuperNodes() {
			next = refreshAlone
			mapAsked = time.Time{}
		}
		t.Reset(next)
	}
}

// busyLoop has the memberships that are ends of live tunnels ask for revocations. Connections come at any time, over links that
// have been there for long, so it looks for itself, as long as there is a link or a tunnel.
func (n *Node) busyLoop(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	resting := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.busyNow:
			if resting { // else it looks soon
				resting = false
				t.Reset(refreshBusy)
			}
			continue
		case <-t.C:
		}
		busy := n.busyDomains()
		for _, m := range n.members() {
			if busy[m.domain] {
				poke(m.askNow)
			}
		}
		if resting = n.tunnels.Quiet(); !resting {
			t.Reset(refreshBusy)
		}
	}
}

// chainPause is the least time between two questions for the chain: anybody can show this node a record of a made-up operator.
const chainPause = 5 * time.Second

// chainLoop asks for the operator chain when somebody shows a certificate of an operator that is not in it: one may have been
// added, or have taken over.
func (m *membership) chainLoop(ctx context.Context) {
	pause := time.NewTimer(chainPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.mesh.trust.Strange():
		}
		had := len(m.mesh.trust.Operators())
		lctx, cancel := context.WithTimeout(ctx, lookupBudget)
		_, err := m.client.Lookup(lctx, dht.Target{Kind: dht.FindOperators})
		cancel()
		if err != nil && ctx.Err() == nil {
			m.node.log.Debug("operators not asked for", "domain", m.domain.String(), "error", err)
		}
		if len(m.mesh.trust.Operators()) > had {
			if err := m.keep(); err != nil {
				m.node.log.Warn("membership not saved", "domain", m.domain.String(), "error", err)
			}
			m.refresh()
		}
		pause.Reset(chainPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// refresh has the loop look at once.
func (m *membership) refresh() {
	poke(m.refreshNow)
}

// askRevocations takes in what is new since the last answer.
func (m *membership) askRevocations(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	records, err := m.client.Lookup(ctx, dht.Target{
		Kind: dht.FindRevocations, Key: protocol.NewID(m.domain, protocol.Hash{}), Since: m.revocationsFrom(m.node.now()),
	})
	if err != nil && !errors.Is(err, dht.ErrNotFound) {
		return err
	}
	now := m.node.meshNow()
	var news []*protocol.Record
	for _, r := range records {
		m.mesh.takeRevocation(r, now)
		var v protocol.RevocationValue
		if protocol.Unmarshal(r.Value, &v) == nil {
			m.sawRevocation(v.Number)
		}
		if held, ok, err := m.node.store.Version(r.Table, r.Owner); err != nil || !ok || held.Less(dht.VersionOf(r)) {
			news = append(news, r)
		}
	}
	if len(news) == 0 {
		return nil
	}
	// Kept in this node's own database, so that a restart does not forget them while nobody can be asked.
	if _, err := m.node.store.Put(ctx, news); err != nil {
		return err
	}
	m.node.log.Info("revocations", "domain", m.domain.String(), "new", len(news))
	m.wantRenewal()
	return nil
}

// recheckFor is for how long, at least, what was seen is asked for again.
const recheckFor = 10 * time.Minute

// revocationMark is from which number on revocations are asked for. The highest seen is no mark: who named it may have lacked,
// or kept back, a lower one, which then would never be asked for again.
type revocationMark struct {
	from   uint64 // ask for what is higher
	next   uint64 // the highest seen when turned was set
	last   uint64 // the highest seen
	turned time.Time
}

func (r *revocationMark) since(now time.Time) uint64 {
	if d := now.Sub(r.turned); d >= recheckFor || d < 0 {
		r.from, r.next, r.turned = r.next, r.last, now
	}
	return r.from
}

func (m *membership) revocationsFrom(now time.Time) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revocations.since(now)
}

func (m *membership) sawRevocation(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revocations.last = max(m.revocations.last, n)
}

// loadRevocations takes in what this node's own database has.
func (m *membership) loadRevocations() error {
	q := dht.Query{Table: protocol.TableRevocation, By: dht.ByNumber, Key: protocol.NewID(m.domain, protocol.Hash{}), Now: m.node.now()}
	var items [64]dht.Item
	for {
		before := q.Since
		k, err := m.node.store.Select(q, items[:])
		if err != nil {
			return err
		}
		for _, it := range items[:k] {
			r, err := protocol.ParseRecord(it.Raw)
			if err != nil {
				continue
			}
			var v protocol.RevocationValue
			if protocol.Unmarshal(r.Value, &v) != nil {
				continue
			}
			q.Since = max(q.Since, v.Number) // also past what does not verify now
			if m.mesh.trust.CheckStatic(r, m.node.meshNow()) == nil {
				m.mesh.takeRevocation(r, m.node.meshNow())
				m.sawRevocation(v.Number)
			}
		}
		if k < len(items) || q.Since == before {
			return nil
		}
	}
}

// wantRenewal fetches the next domain key soon: after a revocation the old one is replaced.
func (m *membership) wantRenewal() {
	m.renewWanted.Store(true)
	poke(m.renewNow)
}

// revoked acts on new revocations: the endpoint forgets the peers, their tunnels and relayed connections end.
func (n *Node) revoked(time.Time) {
	meshes := n.meshes() // now, since who asks below holds locks of its own
	gone := func(id protocol.ID) bool {
		return slices.ContainsFunc(meshes, func(s *mesh) bool { return s.isRevoked(id) })
	}
	// Not on the caller's goroutine: it may be a handler that a closing link waits for.
	n.tasks.start(func(context.Context) {
		n.ep.Recheck()
		n.wake()
		if k := n.tunnels.CloseWhere(gone); k > 0 {
			n.log.Info("tunnels of revoked nodes closed", "links", k)
		}
		n.relay.Drop(gone)
	})
}
