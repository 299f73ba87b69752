package node

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
	"culvert/tunnel"
)

// stunRate is what one source's prefix may ask: many workstations behind one address that all measure at once.
var stunRate = endpoint.Rate{PerSecond: 50, Burst: 500}

// notMessage takes what comes to the message socket and is no message: STUN, and stray reach probes. It runs in the socket's loop.
func (n *Node) notMessage(now time.Time, from netip.AddrPort, b []byte, out *endpoint.Outbox) bool {
	switch {
	case len(b) == 0:
		return false
	case carrier.Classify(b[0]) == carrier.STUN && nat.IsResponse(b):
		n.nat.hand(nat.Event{Kind: nat.Received, From: from, Data: b})
	case carrier.Classify(b[0]) == carrier.STUN:
		n.answerSTUN(now, from, b, out)
	case b[0] == protocol.TypeProbe:
		n.drops.add("unasked probe") // those that were asked for go to fresh sockets
	default:
		return false
	}
	return true
}

// answerSTUN answers as a super-node or operator; other nodes are silent.
func (n *Node) answerSTUN(now time.Time, from netip.AddrPort, b []byte, out *endpoint.Outbox) {
	if n.serving.Load() == nil {
		n.drops.add("STUN is not served here")
		return
	}
	if n.pressed.Load() {
		n.drops.add("STUN under load")
		return
	}
	if !n.nat.stunLimit.AllowSource(now, from) {
		n.drops.add("STUN over the limit")
		return
	}
	var r nat.Responder
	if o := n.nat.origin.Load(); o != nil {
		r = *o
	}
	a, err := r.Answer(b, from)
	if err != nil {
		n.drops.add("STUN refused")
		return
	}
	out.Add(from, a)
}

// setOrigin notes from which addresses STUN is answered: the one that was asked for, or the only public one of a family.
func (n *Node) setOrigin() {
	var r nat.Responder
	own := n.ownAddresses()
	if _, only := n.onlyAddress(); !only {
		own = slices.DeleteFunc(own, func(a netip.Addr) bool { return !tunnel.Public(a) })
	}
	only := func(v6 bool) (o netip.AddrPort) {
		for _, a := range own {
			switch {
			case a.Is6() != v6:
			case o.IsValid():
				return netip.AddrPort{} // which of several is not known
			default:
				o = netip.AddrPortFrom(a, n.bound().Port())
			}
		}
		return o
	}
	r.Origin4, r.Origin6 = only(false), only(true)
	n.nat.origin.Store(&r)
}

// hand gives what came to the node's own socket to the measurement under way, if there is one that has room.
func (s *natState) hand(e nat.Event) {
	ch := s.tap.Load()
	if ch == nil {
		return
	}
	e.Data = bytes.Clone(e.Data)
	select {
	case *ch <- e:
	default:
	}
}
