package node

import (
	"context"
	"crypto/rand"
	"net/netip"
	"time"

	"culvert/discovery/nat"
)

// keepaliveLoop finds out, once for each NAT and day, for how long it keeps a binding that is silent. That takes some minutes and a few dozen datagrams.
func (n *Node) keepaliveLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.nat.measured:
			n.findKeepalive(ctx)
		}
	}
}

func (n *Node) findKeepalive(ctx context.Context) {
	r := n.natReport()
	out := r.Outside()
	n.nat.mu.Lock()
	known := n.nat.keptFor == out && time.Since(n.nat.keptAt) < keepaliveLife
	n.nat.mu.Unlock()
	if known || n.cfg.Settings.Keepalive.D() > 0 || !r.Works() || !keepsState(r.V4) && !keepsState(r.V6) {
		return
	}
	m, servers, peers := n.natServers()
	if m == nil || !m.keeps() {
		return // nobody waits for this node to be asked
	}
	p := nat.NewProber(servers, rand.Reader)
	if n.drive(ctx, m, peers, rounds{p, func(d time.Duration) { n.survives(out, d) }}, false) != nil {
		return
	}
	d, found := p.Interval()
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	if n.nat.report.Outside() != out {
		return // the network changed meanwhile
	}
	n.nat.keptFor, n.nat.keptAt = out, time.Now()
	if found {
		n.nat.keepalive = d
		n.log.Info("the NAT's patience is known", "keepalive", d)
	}
}

// rounds is a prober that tells after each round for how long a binding has been seen to stay: the last round ends only after
// many minutes, in which nodes need not write more often than that.
type rounds struct {
	*nat.Prober
	survived func(time.Duration)
}

// Step implements nat.Machine.
func (r rounds) Step(now time.Time, e nat.Event) []nat.Action {
	out := r.Prober.Step(now, e)
	if d, known := r.Interval(); known {
		r.survived(d)
	}
	return out
}

// survives notes that the NAT of this outside address keeps bindings for as long, and perhaps for longer.
func (n *Node) survives(out netip.Addr, d time.Duration) {
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	if n.nat.report.Outside() != out || n.nat.keptFor == out && d <= n.nat.keepalive {
		return
	}
	n.nat.keptFor, n.nat.keptAt, n.nat.keepalive = out, time.Time{}, d
}

// keepsState reports whether something on the way remembers flows, and forgets them.
func keepsState(f nat.Family) bool {
	return f.Works && (f.NAT != nat.No || f.Filtering == nat.FilteringAddress || f.Filtering == nat.FilteringPort)
}
