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

// maxSpySockets bounds the sockets of all spies. Up to there each has its own, as any agent has: several domains behind one port
// would give them away.
const maxSpySockets = 64

// disguise is as whom and by which family of addresses a spy asks.
type disguise struct {
	as protocol.ID
	v4 bool
}

// spies ask as nodes other than this one, from a socket of their own: nothing of the operator's shows in what they send but the
// host's address, and that neither where the setting audit_bind names others.
type spies struct {
	n    *Node
	ep   *endpoint.Endpoint
	conn *carrier.UDP

	local netip.Addr

	calls calls
	wake  chan struct{}

	mu    sync.Mutex
	known map[protocol.ID]string // with which certificate
}

// spy is whoever asks as d; started at its first question, it ends with the node.
func (o *OperatorMesh) spy(d disguise) (*spies, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.spyOf[d]; s != nil {
		return s, nil
	}
	if o.spyOf == nil {
		o.spyOf = make(map[disguise]*spies)
	}
	n := len(o.spyOf)
	local := spySource(o.n.cfg.Settings.AuditBind, n, d.v4, o.n.bound().Addr())
	if len(o.spying) >= maxSpySockets {
		for i := range o.spying { // one that reaches that family
			if s := o.spying[(n+i)%len(o.spying)]; s.local.IsUnspecified() || s.local.Is4() == d.v4 {
				o.spyOf[d] = s
				return s, nil
			}
		}
	}
	s, err := o.startSpies(local)
	if err != nil && !local.IsUnspecified() {
		o.n.log.Warn("spies do not ask from an address that audit_bind names", "address", local, "error", err)
		s, err = o.startSpies(netip.IPv6Unspecified())
	}
	if err == nil {
		o.spyOf[d] = s
		o.spying = append(o.spying, s)
	}
	return s, err
}

// spySource is from where the n-th spy asks: from one of the addresses that were named, if there is one of the family, or from any.
func spySource(named []string, n int, v4 bool, bound netip.Addr) netip.Addr {
	var l []netip.Addr
	for _, text := range named {
		if a, err := netip.ParseAddr(text); err == nil && a.Unmap().Is4() == v4 {
			l = append(l, a.Unmap())
		}
	}
	switch {
	case len(l) > 0:
		return l[n%len(l)]
	case bound.IsLoopback():
		return bound
	}
	return netip.IPv6Unspecified() // both families
}

func (o *OperatorMesh) startSpies(local netip.Addr) (*spies, error) {
	ep, err := endpoint.New(endpoint.Config{Rand: rand.Reader, Sessions: true})
	if err != nil {
		return nil, err
	}
	conn, err := carrier.ListenUDP(netip.AddrPortFrom(local, 0))
	if err != nil {
		return nil, err
	}
	s := &spies{
		n: o.n, ep: ep, conn: conn, local: local, wake: make(chan struct{}, 1), known: make(map[protocol.ID]string),
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
	return s, nil
}

// AskAs asks as the node with these keys and this certificate.
func (o *OperatorMesh) AskAs(ctx context.Context, keys *key.Pair, record []byte, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	r, err := protocol.ParseRecord(record)
	if err != nil {
		return nil, err
	}
	s, err := o.spy(disguise{r.Owner, to.Addr.Addr().Unmap().Is4()})
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
	ms := make([]carrier.Message, 4)
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
