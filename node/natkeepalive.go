package node

import (
	"context"
	"crypto/rand"
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
	if n.drive(ctx, m, peers, p, false) != nil {
		return
	}
	d, found := p.Interval()
	now := n.natReport()
	n.nat.mu.Lock()
	defer n.nat.mu.Unlock()
	if now.Outside() != out {
		return // the network changed meanwhile
	}
	n.nat.keptFor, n.nat.keptAt = out, time.Now()
	if found {
		n.nat.keepalive = d
		n.log.Info("the NAT's patience is known", "keepalive", d)
	}
}

// keepsState reports whether something on the way remembers flows, and forgets them.
func keepsState(f nat.Family) bool {
	return f.Works && (f.NAT != nat.No || f.Filtering == nat.FilteringAddress || f.Filtering == nat.FilteringPort)
}
