package link

import (
	"fmt"
	"io"
)

const (
	// windowMost is how far a window grows on a flow that is read as fast as it comes.
	windowMost = 1 << 20
	// keepIdle is how much buffer a flow without unread bytes may keep.
	keepIdle = 2 << 10
)

// next waits for unread bytes and takes them all. Without bytes: io.EOF at the end, or the flow's own connection to go on with.
func (f *Flow) next() ([]byte, *bulk, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.err != nil:
			return nil, nil, f.over()
		case len(f.recv) > 0:
			b := f.recv
			f.recv = nil
			return b, nil, nil
		case f.finIn:
			return nil, nil, io.EOF
		case f.bulkIn && f.bulk != nil:
			return nil, f.bulk, nil
		case f.bulkIn && f.stage == bulkFailed:
			return nil, nil, fmt.Errorf("link: the flow's own connection failed: %w", ErrRecord)
		}
		f.readable.Wait()
	}
}

// over is the error of a flow that has ended; both directions ended in order is no reason to fail.
func (f *Flow) over() error {
	if f.err == io.EOF && f.endIn {
		return io.EOF
	}
	return f.err
}

// release gives the window back for bytes that have left the flow, and keeps the buffer for the next ones.
func (f *Flow) release(n int, b []byte) {
	f.link.buffered.Add(-int64(n))
	f.mu.Lock()
	f.consumed += uint64(n)
	idle := len(f.recv) == 0
	if f.err == nil && (!idle || cap(b) <= keepIdle) {
		f.spare = b[:0]
	}
	var limit uint64
	if !f.finIn && !f.bulkIn && f.err == nil && f.consumed+f.window-f.limit >= f.window/2 {
		// Read as fast as it comes, and memory to spare: let more be under way.
		if idle && f.window < windowMost && f.link.grant(int64(f.window)) {
			f.window *= 2
		}
		f.limit = f.consumed + f.window
		limit = f.limit
	}
	f.mu.Unlock()
	if limit > 0 {
		f.link.endOn(f.link.control(Header{Type: FrameWindow, Flow: f.id, Offset: limit}, nil))
	}
}

// grant takes n bytes of window out of what the link may give beyond every flow's first window.
func (l *Link) grant(n int64) bool {
	if l.granted.Add(n) <= int64(l.cfg.Limits.Buffered)/2 {
		return true
	}
	l.granted.Add(-n)
	return false
}

// WriteTo writes everything that the peer sends to w. It returns nil after the peer's orderly end.
func (f *Flow) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		b, own, err := f.next()
		if err != nil {
			return total, f.readEnd(err)
		}
		if own != nil {
			n, err := own.readTo(w, f)
			return total + n, f.readEnd(err)
		}
		n, err := w.Write(b)
		total += int64(n)
		f.release(len(b), b)
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
