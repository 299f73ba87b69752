package link

import (
	"fmt"
	"io"
)

// windowMost is how far a window grows on a flow that is read as fast as it comes: 40 MB/s where a round trip takes 100 ms.
const windowMost = 4 << 20

// handleEnd ends the peer's direction on the link.
func (f *Flow) handleEnd(h Header) error {
	f.mu.Lock()
	if h.Offset != f.received || f.finIn || f.bulkIn || f.udp() && h.Type == FrameBulk {
		f.mu.Unlock()
		return fmt.Errorf("%w: end of a direction out of place", ErrFrame)
	}
	f.finIn, f.bulkIn = h.Type == FrameFin, h.Type == FrameBulk
	if f.bulkIn {
		f.narrowLocked()
	}
	to, called := f.delivery.to, false
	idle := f.finIn && to != nil && !f.delivery.attended && f.err == nil
	if idle {
		f.endIn = true
	} else {
		called = f.calledLocked()
	}
	f.readable.Broadcast()
	f.mu.Unlock()
	if idle {
		f.endDelivery(to)
	}
	if called {
		f.attend(nil, 0, nil)
	}
	return nil
}

// keepLocked adds bytes that nobody has read to those that are there.
func (f *Flow) keepLocked(data []byte) {
	if need := len(f.recv) + len(data); f.into == nil || need > cap(f.recv) {
		r := roomFor(max(need, 2*cap(f.recv)))
		f.recv = append(r.b[:0], f.recv...)
		f.into.give()
		f.into = r
	}
	f.recv = append(f.recv, data...)
}

// next waits for unread bytes and takes them all, with the room they are in. Without bytes: io.EOF at the end, or the flow's own connection to go on with.
func (f *Flow) next() ([]byte, *room, *bulk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.err != nil:
			return nil, nil, nil, f.over()
		case len(f.recv) > 0:
			b, r := f.recv, f.into
			f.recv, f.into = nil, nil
			return b, r, nil, nil
		case f.finIn:
			return nil, nil, nil, io.EOF
		case f.bulkIn && f.bulk != nil:
			return nil, nil, f.bulk, nil
		case f.bulkIn && f.stage == bulkFailed:
			return nil, nil, nil, fmt.Errorf("link: the flow's own connection failed: %w", ErrRecord)
		}
		f.parked = f.sink != nil
		f.readable.Wait()
		f.parked = false
	}
}

// over is the error of a flow that has ended; both directions ended in order is no reason to fail.
func (f *Flow) over() error {
	if f.err == io.EOF && f.endIn {
		return io.EOF
	}
	return f.err
}

// release gives the window back for bytes that have left the flow, and the room they were in.
func (f *Flow) release(n int, r *room) {
	r.give()
	f.link.buffered.Add(-int64(n))
	f.mu.Lock()
	limit := f.creditLocked(n, len(f.recv) == 0)
	f.mu.Unlock()
	f.widen(limit)
}

// creditLocked counts n bytes as taken and returns the window's new limit, or 0 where there is no reason to tell. fast: they
// were read as fast as they came.
func (f *Flow) creditLocked(n int, fast bool) uint64 {
	f.consumed += uint64(n)
	if f.finIn || f.bulkIn || f.err != nil || f.consumed+f.window-f.limit < f.window/2 {
		return 0
	}
	if fast && f.window < windowMost && f.link.grant(int64(f.window)) {
		f.window *= 2
	}
	f.limit = f.consumed + f.window
	return f.limit
}

// widen lets the peer send up to limit.
func (f *Flow) widen(limit uint64) {
	if limit > 0 {
		f.link.endOn(f.link.control(Header{Type: FrameWindow, Flow: f.id, Offset: limit}, nil))
	}
}

// trying is a target that takes at once what it has room for: rawtcp.Conn.
type trying interface {
	TryWrite(b []byte) (int, error)
}

// pass writes data to where the flow is read to, from the read loop itself, if the reader waits there with nothing before it,
// and returns what is left. It waits for nobody. An error is left to the reader to find.
func (f *Flow) pass(sink trying, data []byte) []byte {
	n, _ := sink.TryWrite(data)
	f.mu.Lock()
	f.passed += int64(n)
	limit := f.creditLocked(n, true)
	f.mu.Unlock()
	f.widen(limit)
	return data[n:]
}

// grant takes n bytes of window out of what the link may give beyond every flow's first window. Nobody gets more than half of
// what is left: those who come later are to have windows too.
func (l *Link) grant(n int64) bool {
	for {
		given := l.granted.Load()
		if n > (int64(l.cfg.Limits.Buffered)/2-given)/2 {
			return false
		}
		if l.granted.CompareAndSwap(given, given+n) {
			return true
		}
	}
}

// narrowLocked gives back what was granted to a flow that needs it no more.
func (f *Flow) narrowLocked() {
	f.link.granted.Add(int64(firstWindow) - int64(f.window))
	f.window = firstWindow
}

// WriteTo writes everything that the peer sends to w. It returns nil after the peer's orderly end.
func (f *Flow) WriteTo(w io.Writer) (total int64, err error) {
	f.mu.Lock()
	f.sink, _ = w.(trying)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		total += f.passed
		f.sink = nil
	}()
	for {
		b, r, own, err := f.next()
		if err != nil {
			return total, f.readEnd(err)
		}
		if own != nil {
			n, err := own.readTo(w, f)
			return total + n, f.readEnd(err)
		}
		n, err := w.Write(b)
		total += int64(n)
		f.release(len(b), r)
		if err != nil {
			return total, err
		}
	}
}

// readEnd closes the incoming direction where it ended in order.
func (f *Flow) readEnd(err error) error {
	if err != io.EOF {
		return err
	}
	f.mu.Lock()
	f.endIn = true
	f.mu.Unlock()
	f.ended()
	return nil
}
