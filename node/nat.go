package node

import (
	"cmp"
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
	"culvert/protocol/endpoint"
)

const (
	// natFirst is how long the first measurement waits for a home to answer, natSettle lets changes that come together make one.
	natFirst  = 3 * time.Second
	natSettle = 300 * time.Millisecond
	// natAgain is how often all is measured anew, natBlocked how often where UDP does not get out, natApart how far apart
	// measurements are that servers' words bring about.
	natAgain   = 30 * time.Minute
	natBlocked = time.Minute
	natApart   = 10 * time.Second
	// keepaliveLife is how long a found interval is believed.
	keepaliveLife = 24 * time.Hour
)

// natState is what this node knows of the NATs before it.
type natState struct {
	wake      chan struct{} // measure, something has changed
	measured  chan struct{} // a measurement has ended
	tap       atomic.Pointer[chan nat.Event]
	origin    atomic.Pointer[nat.Responder]
	stunLimit *endpoint.Limiter

	mu        sync.Mutex
	report    nat.Report
	waiting   []chan nat.Report // of people, who do not want to wait for others' pauses
	busy      bool              // a measurement is under way
	last      time.Time         // wall clock, of the last measurement
	seen      [2]netip.AddrPort // this node's own socket by family, as homes agreed last
	announced []protocol.Candidate
	keepalive time.Duration // 0 while it has not been found
	keptFor   netip.Addr    // the outside address behind which it was found
	keptAt    time.Time
}

func newNATState() *natState {
	return &natState{
		wake: make(chan struct{}, 1), measured: make(chan struct{}, 1), stunLimit: endpoint.NewLimiter(stunRate, mrand.Uint64()),
	}
}

// natReport is the last measurement's result; the zero Report before there is one.
func (n *Node) natReport() nat.Report {
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	return n.nat.report
}

// keepaliveInterval is how often to write to somebody so that the NAT keeps the way back open.
func (n *Node) keepaliveInterval() time.Duration {
	if d := n.cfg.Settings.Keepalive.D(); d > 0 {
		return d
	}
	d, _ := n.keepaliveFound()
	return d
}

func (n *Node) keepaliveFound() (d time.Duration, found bool) {
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	return cmp.Or(n.nat.keepalive, nat.DefaultKeepalive), n.nat.keepalive > 0
}

// natChanged has the NAT measured soon.
func (n *Node) natChanged() { poke(n.nat.wake) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// natLoop measures at the start, when networks or the outside address change, when somebody asks, and now and then.
func (n *Node) natLoop(ctx context.Context) {
	n.setOrigin()
	t := time.NewTimer(natFirst)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-n.nat.wake:
			if !n.natPause(ctx) {
				return
			}
		}
		next := natAgain
		if r := n.measureNAT(ctx); r.UDP != nat.Yes {
			next = natBlocked
		}
		t.Reset(next*9/10 + mrand.N(next/5))
	}
}

// natPause lets changes settle and measurements be apart, but keeps nobody waiting who asks. It reports whether to go on.
func (n *Node) natPause(ctx context.Context) bool {
	n.nat.mu.Lock()
	pause := max(natSettle, natApart-time.Since(n.nat.last))
	n.nat.mu.Unlock()
	t := time.NewTimer(pause)
	defer t.Stop()
	for !n.natWanted() {
		select {
		case <-ctx.Done():
			return false
		case <-n.nat.wake:
		case <-t.C:
			return true
		}
	}
	return true
}

func (n *Node) natWanted() bool {
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	return len(n.nat.waiting) > 0
}

// freshReport measures for somebody who waits.
func (n *Node) freshReport(ctx context.Context) (nat.Report, error) {
	ch := make(chan nat.Report, 1)
	n.nat.mu.Lock()
	n.nat.waiting = append(n.nat.waiting, ch)
	busy := n.nat.busy
	n.nat.mu.Unlock()
	if !busy { // else what is under way is fresh enough
		n.natChanged()
	}
	select {
	case r := <-ch:
		return r, nil
	case <-ctx.Done():
		return n.natReport(), ctx.Err()
	case <-n.tasks.ctx.Done():
		return n.natReport(), errClosed
	}
}

// measureNAT runs one measurement and has its result announced.
func (n *Node) measureNAT(ctx context.Context) nat.Report {
	n.nat.mu.Lock()
	n.nat.busy = true
	n.nat.mu.Unlock()
	var r nat.Report
	if m, servers, peers := n.natServers(false); m != nil {
		machine := nat.NewMeasure(nat.Config{
			Servers: servers, Own: n.ownAddresses(), Port: n.bound().Port(), Observed: n.natVotes(), External: n.externalAddresses(),
			Hops: nat.CanHop, Rand: rand.Reader,
		})
		if n.drive(ctx, m, peers, machine, true) == nil {
			r = machine.Report()
		}
	}
	r.At = n.now()
	n.nat.mu.Lock()
	n.nat.report, n.nat.last, n.nat.busy = r, time.Now(), false
	waiting := n.nat.waiting
	n.nat.waiting = nil
	if a := r.Outside(); a != n.nat.keptFor && a.IsValid() {
		n.nat.keepalive = 0 // another NAT
	}
	n.nat.mu.Unlock()
	for _, ch := range waiting {
		ch <- r
	}
	for _, m := range n.members() {
		poke(m.homesDue) // what lies before this node may want to be written to more often
	}
	n.log.Debug("NAT measured", "udp", r.UDP, "mapping", nat.MappingName(r.V4.Mapping), "filtering", r.V4.Filtering, "mapped", r.V4.Mapped)
	n.candidatesChanged()
	poke(n.nat.measured)
	return r
}

// natServers are up to three super-nodes, and operators where there are too few, with a membership that may ask them: homes
// first, or last; as far as possible with addresses of their own.
func (n *Node) natServers(strangers bool) (*membership, []nat.Server, map[protocol.ID]protocol.Peer) {
	l := n.members()
	slices.SortFunc(l, func(a, b *membership) int { return cmp.Compare(a.domain, b.domain) })
	for _, m := range l {
		if m.barred() != nil {
			continue
		}
		if servers, peers := m.natServers(strangers); len(servers) > 0 {
			return m, servers, peers
		}
	}
	return nil, nil, nil
}

func (m *membership) natServers(strangers bool) ([]nat.Server, map[protocol.ID]protocol.Peer) {
	homes := m.homes.ids()
	all := m.peers() // super-nodes in random order, then operators
	slices.SortStableFunc(all, func(a, b protocol.Peer) int {
		return cmp.Compare(natRank(a.ID, homes, strangers), natRank(b.ID, homes, strangers))
	})
	var servers, twins []nat.Server
	peers := make(map[protocol.ID]protocol.Peer)
	hosts := make(map[netip.Addr]bool)
	for _, p := range all {
		if _, known := peers[p.ID]; known {
			continue
		}
		peers[p.ID] = p
		s := nat.Server{ID: p.ID, Trusted: p.ID.Domain() == protocol.OperatorDomain}
		for _, a := range m.mesh.addresses(p.ID) {
			at := &s.V4
			if a.Addr().Unmap().Is6() {
				at = &s.V6
			}
			if !at.IsValid() && !protocol.StreamsOnly(a) {
				*at = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			}
		}
		host := cmp.Or(s.V4.Addr(), s.V6.Addr())
		switch {
		case !host.IsValid():
		case hosts[host]:
			twins = append(twins, s)
		default:
			hosts[host] = true
			servers = append(servers, s)
		}
	}
	servers = append(servers, twins...)
	servers = servers[:min(len(servers), nat.MaxServers)]
	slices.SortStableFunc(servers, func(a, b nat.Server) int { return compareBool(a.Trusted, b.Trusted) })
	return servers, peers
}

// natRank orders those that are asked: operators last, homes before or behind the other super-nodes.
func natRank(id protocol.ID, homes []protocol.ID, strangers bool) int {
	switch {
	case id.Domain() == protocol.OperatorDomain:
		return 2
	case slices.Contains(homes, id) == strangers:
		return 1
	}
	return 0
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// ownAddresses are this machine's, or the one that this node is bound to.
func (n *Node) ownAddresses() []netip.Addr {
	if b := n.bound().Addr(); b.IsValid() && !b.IsUnspecified() {
		return []netip.Addr{b}
	}
	var l []netip.Addr
	for _, p := range n.ownPrefixes() {
		if a := p.Addr().Unmap(); a.Is4() || !n.bound().Addr().Is4() {
			l = append(l, a)
		}
	}
	return l
}

// natVotes are how homes see this node's own socket, by their authenticated answers.
func (n *Node) natVotes() (l []nat.Vote) {
	for _, m := range n.members() {
		for _, h := range m.homes.snapshot() {
			if h.seen.IsValid() && h.misses == 0 {
				l = append(l, nat.Vote{Server: h.peer.ID, Trusted: h.peer.ID.Domain() == protocol.OperatorDomain, Addr: h.seen.AddrPort})
			}
		}
	}
	return l
}

// observed looks whether homes see this node elsewhere than before. It is called after they were asked.
func (n *Node) observed() {
	now := n.natAgreed(n.natVotes())
	n.nat.mu.Lock()
	changed := now != n.nat.seen
	n.nat.seen = now
	n.nat.mu.Unlock()
	if changed {
		n.natChanged()
		n.candidatesChanged()
	}
}

// natAgreed is what servers agree on, by family.
func (n *Node) natAgreed(votes []nat.Vote) (agreed [2]netip.AddrPort) {
	for i := range agreed {
		agreed[i], _ = nat.Agree(slices.DeleteFunc(slices.Clone(votes), func(v nat.Vote) bool { return v.Addr.Addr().Is6() != (i == 1) }))
	}
	return agreed
}
