package nodetest

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// crowd is many identities on one socket, each of which may have many questions in the air.
type crowd struct {
	ep   *endpoint.Endpoint
	conn *net.UDPConn

	mu      sync.Mutex
	waiting map[endpoint.CallID]chan reply
	wake    chan struct{}
}

type reply struct {
	v   *protocol.Verified
	err error
}

func newCrowd(t testing.TB) *crowd {
	t.Helper()
	c := &crowd{waiting: make(map[endpoint.CallID]chan reply), wake: make(chan struct{}, 1)}
	c.ep = must[*endpoint.Endpoint](t)(endpoint.New(endpoint.Config{Rand: rand.Reader, Sessions: true}))
	c.conn = must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	noError(t, c.conn.SetReadBuffer(4<<20))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(c.read)
	wg.Go(func() { c.tick(done) })
	t.Cleanup(func() {
		close(done)
		c.conn.Close()
		wg.Wait()
	})
	return c
}

// as adds an identity and returns what asks as it.
func (c *crowd) as(t testing.TB, p *probe) protocol.Caller {
	t.Helper()
	noError(t, c.ep.AddIdentity(endpoint.Identity{ID: p.id, Keys: p.keys, Record: p.record, Trust: p.trust}))
	return one{c, p.id}
}

type one struct {
	c  *crowd
	id protocol.ID
}

// Call implements protocol.Caller.
func (o one) Call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	c := o.c
	payload, err := protocol.AppendPayload(nil, p)
	if err != nil {
		return nil, err
	}
	timeout := 3 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	ch := make(chan reply, 1)
	var out endpoint.Outbox
	c.mu.Lock()
	if err := ctx.Err(); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	id, err := c.ep.Call(time.Now(), o.id, to, p.Command(), payload, timeout, &out)
	if err == nil {
		c.waiting[id] = ch
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.write(&out)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	select {
	case r := <-ch:
		return r.v, r.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		c.ep.Cancel(id)
		return nil, ctx.Err()
	}
}

func (c *crowd) write(out *endpoint.Outbox) {
	for _, k := range out.Packets() {
		// Like any datagram it may be lost.
		_, _ = c.conn.WriteToUDPAddrPort(k.Data, k.Addr)
	}
	out.Reset()
}

func (c *crowd) event(ev *endpoint.Event) {
	r := reply{err: ev.Err}
	switch ev.Kind {
	case endpoint.EventCallDone:
		r.v = ev.Verified.Clone()
	case endpoint.EventCallFailed:
	default:
		return
	}
	c.mu.Lock()
	ch := c.waiting[ev.Call]
	delete(c.waiting, ev.Call)
	c.mu.Unlock()
	if ch != nil {
		ch <- r
	}
}

func (c *crowd) read() {
	var (
		buf [1500]byte
		ev  endpoint.Event
		out endpoint.Outbox
	)
	for {
		n, from, err := c.conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return
		}
		c.ep.Receive(time.Now(), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n], &ev, &out)
		for ok := true; ok; ok = c.ep.More(time.Now(), &ev, &out) {
			c.event(&ev)
		}
		c.write(&out)
	}
}

func (c *crowd) tick(done <-chan struct{}) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	var (
		evs []endpoint.Event
		out endpoint.Outbox
	)
	for {
		select {
		case <-done:
			return
		case <-t.C:
		case <-c.wake:
		}
		evs = c.ep.Tick(time.Now(), evs[:0], &out)
		for i := range evs {
			c.event(&evs[i])
		}
		c.write(&out)
		t.Reset(min(max(time.Until(c.ep.Next()), 5*time.Millisecond), time.Second))
	}
}
