package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// callTimeout is for a caller that sets no deadline.
const callTimeout = 5 * time.Second

// calls are the goroutines that wait for an answer.
type calls struct {
	mu      sync.Mutex
	waiting map[endpoint.CallID]chan<- answer
}

type answer struct {
	v   *protocol.Verified
	err error
}

func (c *calls) done(id endpoint.CallID, v *protocol.Verified, err error) {
	c.mu.Lock()
	ch, ok := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if ok {
		ch <- answer{v, err} // has room for one
	}
}

// caller asks other nodes as one identity. It implements protocol.Caller.
type caller struct {
	n     *Node
	local protocol.ID
}

var _ protocol.Caller = (*caller)(nil)

// Call implements protocol.Caller. A question to another identity of this process never leaves it.
func (c *caller) Call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	payload, err := protocol.AppendPayload(nil, p)
	if err != nil {
		return nil, err
	}
	if s := c.n.serving.Load(); s != nil && s.id == to.ID {
		return c.n.callSelf(c.local, s, p.Command(), payload)
	}
	timeout := callTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	ch := make(chan answer, 1)
	id, err := c.n.startCall(ctx, c.local, to, p.Command(), payload, timeout, ch)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		c.n.dropCall(id)
		return nil, fmt.Errorf("%w: %w", endpoint.ErrTimeout, ctx.Err())
	case <-c.n.tasks.ctx.Done():
		c.n.dropCall(id)
		return nil, errClosed
	}
}

func (n *Node) startCall(ctx context.Context, local protocol.ID, to protocol.Peer, cmd protocol.Command, payload []byte, timeout time.Duration, ch chan<- answer) (endpoint.CallID, error) {
	var out writer
	to = n.reach(to)
	if !n.carries(to) {
		return 0, carrier.ErrNoStream
	}
	// The lock is held over the call, so that its end cannot come before anybody waits for it.
	n.calls.mu.Lock()
	if err := ctx.Err(); err != nil {
		n.calls.mu.Unlock() // waited too long for the lock: a question for nobody would only make others wait longer
		return 0, fmt.Errorf("%w: %w", endpoint.ErrTimeout, err)
	}
	id, err := n.ep.Call(n.now(), local, to, cmd, payload, timeout, &out.Outbox)
	if err == nil {
		n.calls.waiting[id] = ch
	}
	n.calls.mu.Unlock()
	if err != nil {
		return 0, err
	}
	out.flush(n.mux)
	n.wake()
	return id, nil
}

func (n *Node) dropCall(id endpoint.CallID) {
	n.calls.mu.Lock()
	delete(n.calls.waiting, id)
	n.calls.mu.Unlock()
	n.ep.Cancel(id)
}

// callSelf runs the handler of this process's own serving identity.
func (n *Node) callSelf(local protocol.ID, s *serving, cmd protocol.Command, payload []byte) (*protocol.Verified, error) {
	cert, err := n.certificateOf(local)
	if err != nil {
		return nil, err
	}
	now := n.now()
	v := protocol.Local(cert, s.id, cmd, payload, now)
	r, ok := n.find(v)
	if !ok {
		return nil, fmt.Errorf("%s is not served here", cmd)
	}
	var reply *protocol.Verified
	var others []protocol.Out
	for _, o := range r.handler(now, v) {
		if o.Reply {
			reply = protocol.Local(s.cert(), local, o.Command, o.Payload, now)
			reply.Reply = true
		} else {
			others = append(others, o)
		}
	}
	if len(others) > 0 {
		n.sendAll(now, v, others)
	}
	if reply == nil {
		return nil, endpoint.ErrTimeout // a silent handler is silent to itself too
	}
	return reply, nil
}
