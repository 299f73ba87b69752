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
	if m, servers, peers := n.natServers(); m != nil {
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
	n.reachChanged()
	poke(n.nat.measured)
	return r
}

// ownAddresses are this machine's, or the only one that this node listens on.
func (n *Node) ownAddresses() []netip.Addr {
	if a, ok := n.onlyAddress(); ok {
		return []netip.Addr{a}
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

// natSeen is this node's own socket from outside, by family: what homes say now, and what the last measurement said, together.
func (n *Node) natSeen(r *nat.Report) [2]netip.AddrPort {
	var votes []nat.Vote
	for _, s := range r.Servers {
		votes = append(votes, nat.Vote{Server: s.Server, Trusted: s.Trusted, Addr: s.Mapped})
	}
	return n.natAgreed(append(votes, n.natVotes()...)) // later ones replace those of the same server
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
		n.reachChanged()
	}
}

// natAgreed is what servers agree on, by family.
func (n *Node) natAgreed(votes []nat.Vote) (agreed [2]netip.AddrPort) {
	for i := range agreed {
		agreed[i], _ = nat.Agree(slices.DeleteFunc(slices.Clone(votes), func(v nat.Vote) bool { return v.Addr.Addr().Is6() != (i == 1) }))
	}
	return agreed
}
