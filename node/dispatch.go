package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// route is how one command is handled.
type route struct {
	handler protocol.Handler
	// inline says whether this message can be answered in the socket loop: from memory, without waiting.
	inline func(v *protocol.Verified) bool
	// lane takes those that cannot, many together; nil: the pool takes them one by one.
	lane *lane
}

func always(*protocol.Verified) bool { return true }
func never(*protocol.Verified) bool  { return false }

// routes is the table command → handler of one identity's role. It is made once and never changed.
type routes [protocol.CmdEnd]route

func (r *routes) add(role protocol.Role, inline func(*protocol.Verified) bool) {
	for c, h := range role.Handlers() {
		r[c] = route{handler: h, inline: inline}
	}
}

// find is the handler for a message: what every node does, or what the addressed identity serves.
func (n *Node) find(v *protocol.Verified) (route, bool) {
	if v.Command >= protocol.CmdEnd {
		return route{}, false
	}
	if s := n.serving.Load(); s != nil && s.is(v.Receiver) {
		if r := s.routes[v.Command]; r.handler != nil {
			return r, true
		}
	}
	r := n.common[v.Command]
	return r, r.handler != nil
}

// busyMillis is what a refusal names: a full queue is worked off by then.
const busyMillis = 200

// dispatch runs a request's handler: in the loop if it answers from memory, else beside it, and refuses cheaply when there
// is no room.
func (n *Node) dispatch(now time.Time, v *protocol.Verified, out *endpoint.Outbox) {
	r, ok := n.find(v)
	if !ok {
		n.drops.add("no handler for " + v.Command.String())
		return
	}
	if r.inline(v) {
		n.emit(now, v, r.handler(now, v), out)
		return
	}
	if s := n.serving.Load(); s != nil && s.id == v.Receiver {
		if outs, refused := s.server.Overdrawn(now, v); refused {
			n.emit(now, v, outs, out)
			return
		}
	}
	if c := v.Clone(); !n.queue(r, c) {
		c.Recycle()
		n.drops.add("busy")
		n.emit(now, v, protocol.Reply(protocol.Busy{RetryAfter: busyMillis}), out)
	}
}

// queue has a worker handle v, if there is room.
func (n *Node) queue(r route, v *protocol.Verified) bool {
	if r.lane != nil {
		return r.lane.Try(v.Sender.Domain(), v)
	}
	return n.pool.Try(v.Sender.Domain(), func() { n.sendAll(n.now(), v, r.handler(n.now(), v)) })
}

// emit turns what a handler wants sent into packets.
func (n *Node) emit(now time.Time, v *protocol.Verified, outs []protocol.Out, out *endpoint.Outbox) {
	from := v.Receiver
	if s := n.serving.Load(); s != nil && s.is(from) {
		from = s.id // a former key only answers
	}
	for i := range outs {
		o := &outs[i]
		var err error
		switch {
		case o.Reply:
			err = n.ep.Reply(now, v, o.Command, o.Payload, out)
		case n.isLocal(o.To):
			err = n.deliver(now, from, o)
		default:
			err = n.ep.Send(now, from, n.peerOf(o.To), o.Command, o.Payload, out)
		}
		if err != nil {
			n.log.Debug("message not sent", "command", o.Command, "to", o.To.Short(), "error", err)
		}
	}
}

// deliver hands a message to another identity of this process, which the network would not bring back. It is one-way: answers
// to it are messages of their own.
func (n *Node) deliver(now time.Time, from protocol.ID, o *protocol.Out) error {
	cert, err := n.certificateOf(from)
	if err != nil {
		return err
	}
	v := protocol.Local(cert, o.To, o.Command, o.Payload, now)
	r, ok := n.find(v)
	if !ok {
		return fmt.Errorf("%s is not served here", o.Command)
	}
	// Never on this goroutine, whose handler may be half done.
	if !n.pool.Try(from.Domain(), func() {
		outs := slices.DeleteFunc(r.handler(now, v), func(a protocol.Out) bool { return a.Reply })
		n.sendAll(now, v, outs)
	}) {
		n.drops.add("busy")
	}
	return nil
}

// peerOf is what is known of a peer: a member of a map, or an ID whose keys and address the endpoint has.
func (n *Node) peerOf(id protocol.ID) protocol.Peer {
	for _, s := range n.meshes() {
		if p, ok := s.member(id); ok {
			return n.reach(p)
		}
	}
	return protocol.Peer{ID: id}
}

// counters counts by reason.
type counters struct {
	mu sync.Mutex
	m  map[string]uint64
}

func (c *counters) add(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]uint64)
	}
	c.m[reason]++
}

func (c *counters) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}
