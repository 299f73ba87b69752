package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

const (
	// reachDial bounds a TCP probe, handshake included.
	reachDial = 3 * time.Second
	// reachDials is how many may be under way at once: they hold workers of the pool.
	reachDials = 16
)

// What one node, and all together, may have probed. A measurement takes up to eight datagrams of one super-node.
var (
	reachNodeUDP = endpoint.Rate{PerSecond: 1, Burst: 60}
	reachAllUDP  = endpoint.Rate{PerSecond: 500, Burst: 1000}
	reachNodeTCP = endpoint.Rate{PerSecond: 1.0 / 30, Burst: 6}
	reachAllTCP  = endpoint.Rate{PerSecond: 20, Burst: 60}
)

// reachProbes are the limits of the serving side, and what it shows to whom it dials.
type reachProbes struct {
	nodeUDP, allUDP, nodeTCP, allTCP *endpoint.Limiter
	dials                            chan struct{}
	cert                             func() (*tls.Certificate, error)
}

func newReachProbes(seed func() uint64) *reachProbes {
	return &reachProbes{
		nodeUDP: endpoint.NewLimiter(reachNodeUDP, seed()), allUDP: endpoint.NewLimiter(reachAllUDP, seed()),
		nodeTCP: endpoint.NewLimiter(reachNodeTCP, seed()), allTCP: endpoint.NewLimiter(reachAllTCP, seed()),
		dials: make(chan struct{}, reachDials),
		// Any node key does: whoever is dialled has to prove his, not the super-node.
		cert: sync.OnceValues(func() (*tls.Certificate, error) {
			k, err := key.Generate(rand.Reader)
			if err != nil {
				return nil, err
			}
			c, err := link.Certificate(k.Signing)
			return &c, err
		}),
	}
}

// probeReach is a question to the super-node or operator of this process. It waits, so it runs in the pool.
func (n *Node) probeReach(now time.Time, v *protocol.Verified) []protocol.Out {
	if s := n.serving.Load(); s == nil || !s.is(v.Receiver) {
		n.drops.add("not a super-node")
		return nil
	}
	q, err := protocol.ParsePayload[protocol.ProbeReach](v.Payload)
	if err != nil {
		n.drops.add("malformed")
		return nil
	}
	return protocol.Reply(protocol.ReachProbed{Status: n.probed(now, v, q)})
}

func (n *Node) probed(now time.Time, v *protocol.Verified, q protocol.ProbeReach) protocol.Status {
	to := protocol.AddrOf(q.Addr.AddrPort)
	// Nobody has it write to anybody but himself.
	if !to.IsValid() || to.Port() == 0 || to.Addr() != protocol.AddrOf(v.From).Addr() || !n.isPublic(to.Addr()) {
		n.drops.add("probe of another host")
		return protocol.StatusNotAllowed
	}
	node, all := n.probes.nodeUDP, n.probes.allUDP
	if q.Protocol == protocol.TCP {
		node, all = n.probes.nodeTCP, n.probes.allTCP
	}
	if !node.AllowNode(now, v.Sender) || !all.AllowNode(now, protocol.ID{}) {
		n.drops.add("probe over the limit")
		return protocol.StatusLimit
	}
	switch {
	case q.Protocol == protocol.UDP && q.Other:
		return n.probeFromElsewhere(to.AddrPort, q.Nonce)
	case q.Protocol == protocol.UDP:
		b := protocol.AppendReachProbe(nil, q.Nonce)
		if k, err := n.conn.WriteBatch([]carrier.Message{{Addr: to.AddrPort, Buf: b, N: len(b)}}); err != nil || k == 0 {
			return protocol.StatusUnreachable
		}
		return protocol.StatusOK
	case q.Protocol == protocol.TCP:
		return n.probeTCP(to.AddrPort, v.Node)
	}
	return protocol.StatusNotAllowed
}

// probeFromElsewhere sends from another port of the same address.
func (n *Node) probeFromElsewhere(to netip.AddrPort, nonce [16]byte) protocol.Status {
	c, err := n.freshUDP(to.Addr().Is6())
	if err != nil {
		return protocol.StatusInternal
	}
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort(protocol.AppendReachProbe(nil, nonce), to); err != nil {
		return protocol.StatusUnreachable
	}
	return protocol.StatusOK
}

// probeTCP dials, and has whoever answers prove the asker's key.
func (n *Node) probeTCP(to netip.AddrPort, asker *protocol.CertifiedNode) protocol.Status {
	select {
	case n.probes.dials <- struct{}{}:
		defer func() { <-n.probes.dials }()
	default:
		return protocol.StatusLimit
	}
	cert, err := n.probes.cert()
	if err != nil {
		return protocol.StatusInternal
	}
	ctx, cancel := context.WithTimeout(n.tasks.ctx, reachDial)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return protocol.StatusUnreachable
	}
	defer c.Close()
	if err := tls.Client(c, link.ClientTLS(cert, asker)).HandshakeContext(ctx); err != nil {
		return protocol.StatusUnreachable // the same as silence: nobody learns here what else answers at an address
	}
	return protocol.StatusOK
}
