package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
)

// offering finds the super-node or operator whose address for messages this is.
func (n *Node) offering(to netip.AddrPort) (s *mesh, id protocol.ID, ok bool) {
	for _, s := range n.meshes() {
		if m := s.pmap.Load(); m != nil {
			for _, mem := range m.Members() {
				if slices.Contains(mem.Addresses, to) {
					return s, mem.Peer.ID, true
				}
			}
		}
		for _, p := range s.contacts() {
			if p.Addr == to {
				return s, p.ID, true
			}
		}
	}
	return nil, protocol.ID{}, false
}

// carries reports whether a peer can be asked now, as far as is known: while UDP is blocked a super-node or operator needs a
// way by stream. Others, such as nodes in the same LAN, are tried by UDP all the same.
func (n *Node) carries(to protocol.Peer) bool {
	if !n.mux.Blocked() || !to.Addr.IsValid() || to.Addr.Addr().Zone() != "" {
		return true
	}
	if !n.mux.Reaches(to.Addr) {
		return false
	}
	known := false
	for _, s := range n.meshes() {
		_, ok := s.member(to.ID)
		known = known || ok
	}
	if !known {
		return true
	}
	now := time.Now()
	return slices.ContainsFunc(n.ways(to.ID, carrier.ServiceMessages), func(w carrier.Way) bool {
		return !n.choice.memory.Hopeless(now, w.Class)
	})
}

// ways are all ways by which streams may be opened to a super-node or operator, in the order in which they are tried where
// nothing is known of the network.
func (n *Node) ways(id protocol.ID, service string) []carrier.Way {
	var own, web, plain []carrier.Way
	have := families(n.families.Load())
	for _, s := range n.meshes() {
		for _, a := range s.everyAddress(id) {
			if have != 0 && have&familyOf(a.Addr()) == 0 {
				continue
			}
			own, web, plain = n.wayTo(a.String(), a.Port(), service, own, web, plain)
		}
		if o, ok := s.trust.Operator(id); ok && o.HTTPS != "" {
			way := carrier.Way{Address: o.HTTPS}
			_, port, err := net.SplitHostPort(o.HTTPS)
			way.Own = err != nil || port != "443"
			for _, way.Form = range []carrier.Form{carrier.TLS, carrier.WebSocketTLS} {
				web = append(web, way)
			}
		}
	}
	slices.SortStableFunc(web, func(a, b carrier.Way) int { return int(a.Form) - int(b.Form) })
	// Bare TCP first where it does; messages need TLS in any case, and then the port that passes more firewalls comes first.
	l := slices.Concat(own, web, plain)
	if service == carrier.ServiceMessages && len(web) > 0 {
		l = slices.Concat(web[:1], own, web[1:], plain)
	}
	return n.alsoProxied(l)
}

func (n *Node) wayTo(address string, port uint16, service string, own, web, plain []carrier.Way) (_, _, _ []carrier.Way) {
	way := func(f carrier.Form, own bool) carrier.Way {
		return carrier.Way{Class: carrier.Class{Form: f, Own: own}, Address: address}
	}
	switch {
	case port == 443:
		web = append(web, way(carrier.TLS, false), way(carrier.WebSocketTLS, false))
	case port == 80:
		plain = append(plain, way(carrier.WebSocket, false))
	case service == carrier.ServiceRelay:
		own = append(own, way(carrier.Bare, true))
	default:
		own = append(own, way(carrier.TLS, true))
	}
	return own, web, plain
}

// alsoProxied puts behind each way the same by the proxy, if there is one; ports that proxies rarely let through come last.
func (n *Node) alsoProxied(l []carrier.Way) []carrier.Way {
	if !n.choice.dialer.Proxies.Any() {
		return l
	}
	var out, last []carrier.Way
	for _, w := range l {
		out = append(out, w)
		if n.choice.dialer.Proxies.For(w.Address) == nil {
			continue
		}
		if w.Proxied = true; w.Own {
			last = append(last, w)
			continue
		}
		out = append(out, w)
	}
	return append(out, last...)
}

// everyAddress is all addresses of a member or operator, those for streams alone too, each once.
func (s *mesh) everyAddress(id protocol.ID) []netip.AddrPort {
	l := s.addresses(id)
	if o, ok := s.trust.Operator(id); ok {
		for _, a := range o.Addresses {
			if a.IsValid() {
				l = append(l, a.AddrPort)
			}
		}
	}
	slices.SortFunc(l, netip.AddrPort.Compare)
	return slices.Compact(l)
}

// dialMessages opens the stream that stands for a peer's UDP address. It is the mux's.
func (n *Node) dialMessages(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	_, id, ok := n.offering(to)
	if !ok {
		return nil, carrier.ErrNoStream
	}
	l := n.ways(id, carrier.ServiceMessages)
	n.choice.memory.Sort(time.Now(), l)
	c, way, err := n.choice.dialer.Race(ctx, l, carrier.ServiceMessages, streamStagger, func(w carrier.Way, err error) {
		n.choice.memory.Note(time.Now(), w.Class, err == nil)
	})
	if err != nil {
		n.log.Debug("no way by stream", "peer", id.Short(), "error", err)
		return nil, err
	}
	n.choice.last.Store(&way)
	n.log.Debug("reached by stream", "peer", id.Short(), "way", way.String())
	return c, nil
}

// dialRelay opens a connection to a relay: by bare TCP, or, a moment later, by streams. That one fails says little of a class:
// an operator that does not relay refuses, too.
func (n *Node) dialRelay(ctx context.Context, at protocol.Peer) (net.Conn, error) {
	l := n.ways(at.ID, carrier.ServiceRelay)
	if len(l) == 0 {
		l = []carrier.Way{{Class: carrier.Class{Form: carrier.Bare, Own: true}, Address: at.Addr.String()}}
	}
	n.choice.memory.Sort(time.Now(), l)
	c, _, err := n.choice.dialer.Race(ctx, l, carrier.ServiceRelay, relayStagger, func(w carrier.Way, err error) {
		if err == nil {
			n.choice.memory.Note(time.Now(), w.Class, true)
		}
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// carriedFirst moves peers that cannot be reached by what carries messages now behind the others.
func (n *Node) carriedFirst(l []protocol.Peer) []protocol.Peer {
	if !n.mux.Blocked() {
		return l
	}
	reached, others := n.split(l)
	return append(reached, others...)
}

func (n *Node) split(l []protocol.Peer) (reached, others []protocol.Peer) {
	for _, p := range l {
		if n.carries(p) {
			reached = append(reached, p)
		} else {
			others = append(others, p)
		}
	}
	return reached, others
}

// withOperators adds operators to the relays where no super-node looks able to relay. Most refuse: it is their
// configuration's choice.
func (m *membership) withOperators(relays []protocol.Peer) []protocol.Peer {
	now := m.node.meshNow()
	for _, p := range relays {
		if m.node.carries(p) && !m.mesh.scores.Suspect(p.ID, now) {
			return relays
		}
	}
	for _, p := range m.mesh.contacts() {
		if !m.node.isLocal(p.ID) && !slices.ContainsFunc(relays, func(r protocol.Peer) bool { return r.ID == p.ID }) {
			relays = append(relays, m.node.reach(p))
		}
	}
	return relays
}
