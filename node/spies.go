package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

// spies ask as nodes other than this one, from a socket of their own: nothing of the operator's shows in what they send but the
// host's address.
type spies struct {
	n    *Node
	ep   *endpoint.Endpoint
	conn *carrier.UDP

	calls calls
	wake  chan struct{}

	mu    sync.Mutex
	known map[protocol.ID]string // with which certificate
}

// spies are started at the first question and end with the node.
func (o *OperatorMesh) spies() (*spies, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.spying != nil {
		return o.spying, nil
	}
	ep, err := endpoint.New(endpoint.Config{Rand: rand.Reader, Sessions: true})
	if err != nil {
		return nil, err
	}
	local := netip.IPv6Unspecified() // both families
	if b := o.n.bound().Addr(); b.IsLoopback() {
		local = b
	}
	conn, err := carrier.ListenUDP(netip.AddrPortFrom(local, 0))
	if err != nil {
		return nil, err
	}
	s := &spies{
		n: o.n, ep: ep, conn: conn, wake: make(chan struct{}, 1), known: make(map[protocol.ID]string),
		calls: calls{waiting: make(map[endpoint.CallID]chan<- answer)},
	}
	started := o.n.tasks.start(s.read) && o.n.tasks.start(s.tick) && o.n.tasks.start(func(ctx context.Context) {
		<-ctx.Done()
		conn.Close() // ends the reader
	})
	if !started {
		conn.Close()
		return nil, errClosed
	}
	o.spying = s
	return s, nil
}

// AskAs asks as the node with these keys and this certificate.
func (o *OperatorMesh) AskAs(ctx context.Context, keys *key.Pair, record []byte, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	s, err := o.spies()
	if err != nil {
		return nil, err
	}
	r, err := protocol.ParseRecord(record)
	if err != nil {
		return nil, err
	}
	if err := s.admit(endpoint.Identity{ID: r.Owner, Keys: keys, Record: record, Trust: o.n.cfg.Extension.Trust}); err != nil {
		return nil, err
	}
	return s.ask(ctx, r.Owner, to, p)
}

// Ask asks as the operator.
func (o *OperatorMesh) Ask(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	return (&caller{o.n, o.n.serving.Load().id}).Call(ctx, to, p)
}

// admit takes in a spy, or its renewed certificate.
func (s *spies) admit(id endpoint.Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id.ID] == string(id.Record) {
		return nil
	}
	if err := s.ep.AddIdentity(id); err != nil {
		return err
	}
	s.known[id.ID] = string(id.Record)
	return nil
}

func (s *spies) ask(ctx context.Context, as protocol.ID, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	payload, err := protocol.AppendPayload(nil, p)
	if err != nil {
		return nil, err
	}
	timeout := callTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	ch := make(chan answer, 1)
	var out writer
	s.calls.mu.Lock()
	id, err := s.ep.Call(s.n.now(), as, to, p.Command(), payload, timeout, &out.Outbox)
	if err == nil {
		s.calls.waiting[id] = ch
	}
	s.calls.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out.flush(s.conn)
	poke(s.wake)
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", endpoint.ErrTimeout, ctx.Err())
	case <-s.n.tasks.ctx.Done():
		err = errClosed
	}
	s.calls.mu.Lock()
	delete(s.calls.waiting, id)
	s.calls.mu.Unlock()
	s.ep.Cancel(id)
	return nil, err
}

func (s *spies) event(ev *endpoint.Event) {
	switch ev.Kind { // nobody asks spies anything: requests go unanswered
	case endpoint.EventCallDone:
		s.calls.done(ev.Call, ev.Verified.Clone(), nil)
	case endpoint.EventCallFailed:
		s.calls.done(ev.Call, nil, ev.Err)
	}
}

func (s *spies) read(context.Context) {
	ms := make([]carrier.Message, 16)
	for i := range ms {
		ms[i].Buf = make([]byte, readBuffer)
	}
	var (
		ev  endpoint.Event
		out writer
	)
	for {
		k, err := s.conn.ReadBatch(ms)
		if err != nil {
			return // closed; a spy that hears nothing more takes nobody off
		}
		for _, m := range ms[:k] {
			now := s.n.now()
			s.ep.Receive(now, m.Addr, m.Buf[:m.N], &ev, &out.Outbox)
			for ok := true; ok; ok = s.ep.More(now, &ev, &out.Outbox) {
				s.event(&ev)
			}
		}
		out.flush(s.conn)
	}
}

func (s *spies) tick(ctx context.Context) {
	t := time.NewTimer(tickResting)
	defer t.Stop()
	var (
		evs []endpoint.Event
		out writer
	)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.wake:
		}
		evs = s.ep.Tick(s.n.now(), evs[:0], &out.Outbox)
		for i := range evs {
			s.event(&evs[i])
		}
		out.flush(s.conn)
		d := tickResting
		if s.ep.Calling() {
			d = tickAtLeast
		}
		t.Reset(min(max(s.ep.Next().Sub(s.n.now()), tickAtMost), d))
	}
}
