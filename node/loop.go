package node

import (
	"context"
	"errors"
	"net"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

const (
	readBatch   = 64
	readBuffer  = 1500        // more than a datagram of ours, or of QUIC's, so that a longer one is seen to be longer
	writeBatch  = 16          // whoever asked goes on while the rest is answered; past it a call's own cost is lost in the noise
	tickAtLeast = time.Second // while calls are under way: an answer may make the next step due earlier
	tickResting = time.Minute // while none are
	tickAtMost  = 5 * time.Millisecond

	// pressedAfter full batches in a row the socket has held a thousand datagrams and more at any time: more comes than is handled.
	pressedAfter = 16
)

// readLoop takes datagrams in batches, lets the endpoint judge each, runs fast handlers once all of a batch are judged, and writes
// all answers in batches. It is the only reader of the socket.
func (n *Node) readLoop(ctx context.Context) {
	ms := make([]carrier.Message, readBatch)
	for i := range ms {
		ms[i].Buf = make([]byte, readBuffer)
	}
	var (
		evs [readBatch]endpoint.Event
		vs  = make([]*protocol.Verified, 0, readBatch)
		out writer
	)
	scratch := new(protocol.Scratch)
	for i := range evs {
		evs[i].Verified.Scratch = scratch
	}
	for full := 0; ; {
		k, err := n.conn.ReadBatch(ms)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				n.tasks.fail(err)
			}
			return
		}
		if full++; k < len(ms) {
			full = 0
		}
		n.press(full >= pressedAfter)
		now, came := n.now(), 0
		vs = vs[:0]
		for i := range ms[:k] {
			m := &ms[i]
			if n.notMessage(now, m.Addr, m.Buf[:m.N], &out.Outbox) {
				continue
			}
			kind := carrier.Other
			if m.N > 0 {
				kind = carrier.Classify(m.Buf[0])
			}
			switch {
			case kind == carrier.QUIC:
				n.lane.Deliver(now, m)
				continue
			case kind != carrier.Culvert:
				n.drops.add("not ours")
				continue
			case m.Buf[0] == protocol.TypePunch:
				n.punches.Deliver(m.Addr, m.Buf[:m.N])
				continue
			}
			ev := &evs[came]
			came++
			if n.ep.Receive(now, m.Addr, m.Buf[:m.N], ev, &out.Outbox); ev.Kind == endpoint.EventRequest {
				vs = append(vs, &ev.Verified)
			}
		}
		for i := range evs[:came] {
			if i%writeBatch == 0 { // of more at once the first would be out of the nearest cache when its turn comes
				n.prefetch(vs[min(i, len(vs)):min(i+writeBatch, len(vs))])
			}
			n.received(now, &evs[i], &out.Outbox)
			if out.Len() >= writeBatch {
				out.flush(n.mux)
			}
		}
		out.flush(n.mux)
		n.wakeForCalls()
	}
}

// press notes whether more comes in than is handled. What costs least to refuse is shed first; see doc.go.
func (n *Node) press(on bool) {
	if n.pressed.Load() != on {
		n.pressed.Store(on)
		n.ep.Press(on)
	}
}

// prefetch has the records that are asked for brought near, all at once. It changes nothing but how long the handlers take.
func (n *Node) prefetch(vs []*protocol.Verified) {
	if s := n.serving.Load(); s != nil {
		s.server.Prefetch(vs)
	}
}

// received hands on what came of a datagram, message by message.
func (n *Node) received(now time.Time, ev *endpoint.Event, out *endpoint.Outbox) {
	for ok := true; ok; ok = n.ep.More(now, ev, out) {
		n.event(now, ev, out)
	}
}

// event hands on what came of a message or a tick.
func (n *Node) event(now time.Time, ev *endpoint.Event, out *endpoint.Outbox) {
	switch ev.Kind {
	case endpoint.EventRequest:
		n.dispatch(now, &ev.Verified, out)
	case endpoint.EventCallDone:
		n.calls.done(ev.Call, ev.Verified.Clone(), nil)
	case endpoint.EventCallFailed:
		n.calls.done(ev.Call, nil, ev.Err)
	}
}

// tickLoop gives the endpoint the time when something is due.
func (n *Node) tickLoop(ctx context.Context) {
	t := time.NewTimer(tickAtLeast)
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
		case <-n.wakeTick:
		}
		now := n.now()
		evs = n.ep.Tick(now, evs[:0], &out.Outbox)
		for i := range evs {
			n.event(now, &evs[i], &out.Outbox)
		}
		out.flush(n.mux)
		// In this order: a call that comes in between is seen by one of the two loops.
		n.tickRests.Store(true)
		d := tickResting
		if n.ep.Calling() {
			n.tickRests.Store(false)
			d = tickAtLeast
		}
		t.Reset(min(max(n.ep.Next().Sub(n.now()), tickAtMost), d))
	}
}

// wake makes the tick loop look again: something new may be due earlier.
func (n *Node) wake() {
	poke(n.wakeTick)
}

// wakeForCalls wakes the tick loop where it rests and a handler has called somebody, and where it waits for a call that has
// been answered: now that costs nothing, later it would wake an idle process.
func (n *Node) wakeForCalls() {
	if n.tickRests.Load() == n.ep.Calling() {
		n.wake()
	}
}

// writer is an outbox with the messages that carry it to the socket.
type writer struct {
	endpoint.Outbox
	ms []carrier.Message
}

func (w *writer) flush(c carrier.Conn) {
	if w.Len() == 0 {
		return
	}
	w.ms = w.ms[:0]
	for _, p := range w.Packets() {
		w.ms = append(w.ms, carrier.Message{Addr: p.Addr, Buf: p.Data, N: len(p.Data)})
	}
	// A datagram that is not taken is a lost one; a closed socket ends the read loop.
	_, _ = c.WriteBatch(w.ms)
	w.Reset()
}

// sendAll writes what handlers outside the read loop want sent.
func (n *Node) sendAll(now time.Time, v *protocol.Verified, outs []protocol.Out) {
	var out writer
	n.emit(now, v, outs, &out.Outbox)
	out.flush(n.mux)
	n.wake()
}
