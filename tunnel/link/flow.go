package link

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Flow is one tunnelled connection. One goroutine may read and another write; each direction ends by itself.
type Flow struct {
	link *Link
	id   FlowID
	open Open

	answer  chan struct{} // closed when the tunnel side has answered, or the flow has ended
	moved   atomic.Int64  // bytes both ways
	active  atomic.Int64  // last byte, nanoseconds since the link's start
	sending sync.Mutex    // one writer at a time: offsets and frames in one order

	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond
	err      error  // the flow is over
	onEnd    func() // told once when the flow breaks
	waiting  bool   // for the device; counted in link.pending
	opened   bool

	recv     []byte // bytes that nobody has read
	into     *room  // that recv lies in
	sink     trying // where the flow is read to, if the read loop may write there itself
	parked   bool   // the reader waits, and nothing is on its way from him to sink
	passed   int64  // bytes that the read loop has written
	received uint64 // offset behind recv
	consumed uint64
	limit    uint64 // up to which the peer may send
	window   uint64
	finIn    bool // the peer's direction has ended
	bulkIn   bool // the peer's direction goes on in the flow's own connection
	endIn    bool // all of it has been read

	delivery delivery

	sent      uint64
	sendLimit uint64
	endOut    bool // FIN is sent

	stage bulkStage
	bulk  *bulk
	met   bool // the peer has called to the relay

	datagrams [][]byte // of a flow of protocol UDP, that nobody has read
	queued    int      // their bytes
	number    uint64   // of the next datagram to be sent
}

func newFlow(l *Link, id FlowID, open Open) *Flow {
	f := &Flow{
		link: l, id: id, open: open, answer: make(chan struct{}), waiting: true,
		limit: firstWindow, window: firstWindow, sendLimit: firstWindow,
	}
	if f.udp() {
		f.stage = bulkFailed // datagrams ride the link
	}
	f.readable.L, f.writable.L = &f.mu, &f.mu
	f.active.Store(int64(time.Since(l.start)))
	return f
}

// Open asks the tunnel side for a flow. It returns at once: bytes may be written before the device has answered.
func (l *Link) Open(o Open) (*Flow, error) {
	if l.cfg.Role != RoleUser {
		return nil, fmt.Errorf("%w: only the user's side opens", ErrFrame)
	}
	l.opening.Lock()
	defer l.opening.Unlock()
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return nil, fmt.Errorf("the link ended: %w", l.err)
	}
	if len(l.flows) >= l.cfg.Limits.Flows {
		l.mu.Unlock()
		return nil, ErrTooMany
	}
	l.counter++
	f := newFlow(l, newFlowID(l.number, l.counter), o)
	l.flows[l.counter] = f
	l.pending++
	l.mu.Unlock()
	l.inUse()
	l.spoke()
	if err := l.out.data(Header{Type: FrameOpen, Flow: f.id}, o.Append(nil)); err != nil {
		f.fail(err)
		return nil, err
	}
	return f, nil
}

// ID names the flow for ever.
func (f *Flow) ID() FlowID { return f.id }

// Target is what was asked for.
func (f *Flow) Target() Open { return f.open }

// Link is the flow's link.
func (f *Flow) Link() *Link { return f.link }

// Moved is how many bytes went either way.
func (f *Flow) Moved() int64 { return f.moved.Load() }

// Idle is for how long no byte has moved.
func (f *Flow) Idle() time.Duration {
	return time.Since(f.link.start) - time.Duration(f.active.Load())
}

// Opened waits until the device has answered: nil, or *RefusedError, or why the flow ended.
func (f *Flow) Opened(ctx context.Context) error {
	select {
	case <-f.answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opened {
		return nil
	}
	return f.err
}

// Accept tells the opener that the device has answered.
func (f *Flow) Accept() error {
	f.mu.Lock()
	err := f.err
	if err == nil {
		f.opened = true
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	f.answered()
	f.link.spoke()
	return f.link.out.data(Header{Type: FrameOpened, Flow: f.id}, nil) // its own goroutine writes, as it may wait
}

// Refuse tells the opener why there is no connection to the device.
func (f *Flow) Refuse(r Reason, text string) {
	if f.finish(&RefusedError{Reason: r, Text: text}) {
		f.link.endOn(f.link.control(Header{Type: FrameRefused, Flow: f.id}, AppendReason(nil, r, text)))
	}
}

// Reset ends the flow in the middle, at both ends.
func (f *Flow) Reset(r Reason, text string) {
	if f.finish(&ResetError{Reason: r, Text: text, Local: true}) {
		f.link.endOn(f.link.control(Header{Type: FrameReset, Flow: f.id}, AppendReason(nil, r, text)))
	}
}

// Close resets what has not ended by itself. It is idempotent.
func (f *Flow) Close() {
	f.mu.Lock()
	over := f.endIn && f.endOut
	f.mu.Unlock()
	if !over {
		f.Reset(ReasonNone, "")
	}
	f.finish(io.ErrClosedPipe)
}

// OnBreak has fn called when the flow ends in another way than both directions in order; at once if it has.
func (f *Flow) OnBreak(fn func()) {
	f.mu.Lock()
	if f.err == nil {
		f.onEnd = fn
		fn = nil
	} else if f.err == io.EOF {
		fn = nil
	}
	f.mu.Unlock()
	if fn != nil {
		fn()
	}
}

// Err is why the flow is over: nil while it lives, io.EOF after both directions' orderly end.
func (f *Flow) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// answered takes the flow off the count of those whose device is awaited.
func (f *Flow) answered() {
	f.mu.Lock()
	was := f.waiting
	f.waiting = false
	f.mu.Unlock()
	if was {
		close(f.answer)
		f.link.mu.Lock()
		f.link.pending--
		f.link.mu.Unlock()
	}
}

// fail ends the flow on this side only.
func (f *Flow) fail(err error) { f.finish(err) }

// finish ends the flow once: everybody who waits for it is told, and nothing of it remains.
func (f *Flow) finish(err error) bool {
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		return false
	}
	f.err = err
	f.link.buffered.Add(-int64(len(f.recv) + f.queued))
	f.into.give()
	f.recv, f.into, f.datagrams, f.queued = nil, nil, nil, 0
	f.narrowLocked()
	if f.stage == bulkDialling {
		f.stage = bulkFailed
	}
	b := f.bulk
	onEnd := f.onEnd
	f.onEnd = nil
	f.readable.Broadcast()
	f.writable.Broadcast()
	f.mu.Unlock()
	if b != nil {
		b.close()
		f.link.bulks.Add(-1)
	}
	if onEnd != nil && err != io.EOF {
		onEnd()
	}
	f.answered()
	f.link.forget(f)
	return true
}

// ended is called when a direction has ended; a flow of which both have is over.
func (f *Flow) ended() {
	f.mu.Lock()
	over := f.endIn && f.endOut
	f.mu.Unlock()
	if over {
		f.finish(io.EOF)
	}
}

func (l *Link) forget(f *Flow) {
	l.mu.Lock()
	delete(l.flows, f.id.Counter())
	l.mu.Unlock()
	l.used.Store(int64(time.Since(l.start)))
}

// endOn ends the link where err is not nil.
func (l *Link) endOn(err error) {
	if err != nil {
		l.end(err)
	}
}

// handle takes one frame of the flow from the read loop.
func (f *Flow) handle(h Header, data []byte) error {
	switch h.Type {
	case FrameData:
		return f.handleData(h, data)
	case FrameDatagram:
		return f.handleDatagram(data)
	case FrameMeet:
		return f.link.meet(f, data)
	case FrameRefused, FrameReset:
		reason, text, err := ParseReason(data)
		if err != nil {
			return err
		}
		if h.Type == FrameRefused {
			f.fail(&RefusedError{Reason: reason, Text: text})
		} else {
			f.fail(&ResetError{Reason: reason, Text: text})
		}
		return nil
	case FrameOpened:
		f.mu.Lock()
		f.opened = true
		f.mu.Unlock()
		f.answered()
		return nil
	}
	if h.Type == FrameFin || h.Type == FrameBulk {
		return f.handleEnd(h)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.Type == FrameWindow && h.Offset > f.sendLimit {
		f.sendLimit = h.Offset
		f.writable.Signal()
	}
	return nil
}

func (f *Flow) handleData(h Header, data []byte) error {
	if !f.lockLiving() {
		return nil
	}
	n := uint64(len(data))
	if f.udp() || h.Offset != f.received || f.finIn || f.bulkIn || n > f.limit-f.received {
		f.mu.Unlock()
		return fmt.Errorf("%w: data out of place or past the window", ErrFrame)
	}
	f.received += n
	if f.parked && len(f.recv) == 0 {
		sink := f.sink
		f.mu.Unlock() // nobody else writes: the reader waits for what only this loop brings
		data = f.pass(sink, data)
		f.count(int(n) - len(data))
		if len(data) == 0 {
			return nil
		}
		if n = uint64(len(data)); !f.lockLiving() {
			return nil
		}
	}
	f.keepLocked(data)
	called := f.calledLocked()
	f.readable.Broadcast()
	f.mu.Unlock()
	if called {
		f.attend(nil, 0, nil)
	}
	if f.link.buffered.Add(int64(n)) > int64(f.link.cfg.Limits.Buffered) {
		f.Reset(ReasonLimit, "unread bytes")
		return nil
	}
	f.count(len(data))
	return nil
}

// lockLiving takes the lock of a flow that is not over.
func (f *Flow) lockLiving() bool {
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		return false
	}
	return true
}

// count notes that bytes have moved and starts the flow's own connection when they were many.
func (f *Flow) count(n int) {
	f.active.Store(int64(time.Since(f.link.start)))
	f.link.inUse()
	if moved := f.moved.Add(int64(n)); moved > f.link.cfg.PromoteAfter && f.link.cfg.PromoteAfter >= 0 {
		f.promote()
	}
}

// meetOnce reports whether the peer's call to the relay is the first of this flow.
func (f *Flow) meetOnce() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := !f.met && f.err == nil
	f.met = true
	return first
}
