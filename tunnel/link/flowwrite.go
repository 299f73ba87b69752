package link

import (
	"errors"
	"io"
	"sync"
)

// readSmall is what an idle direction holds to read into; a busy one borrows room for a whole record.
const readSmall = 1 << 10

var errSwitch = errors.New("link: the direction goes on in the flow's own connection")

// SourceError is a failure of what ReadFrom reads, told apart from one of the flow.
type SourceError struct{ Err error }

// Error implements error.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap is the reader's own error.
func (e *SourceError) Unwrap() error { return e.Err }

// buffers lends room for one record with header and tag.
type buffers struct{ pool sync.Pool }

const bufferSize = recordHeader + recordSent + recordTag

func (p *buffers) take() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

func (p *buffers) give(b []byte) {
	if cap(b) == bufferSize {
		p.pool.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}

// Write sends b in order. It waits for the peer's window.
func (f *Flow) Write(b []byte) (int, error) {
	buf := f.link.bufs.take()
	defer f.link.bufs.give(buf)
	done := 0
	for done < len(b) {
		n := copy(buf[recordHeader:recordHeader+recordSent], b[done:])
		if err := f.send(buf, n); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// ReadFrom sends everything that r gives, and holds a large buffer only while r is busy. A failure of r is a *SourceError.
func (f *Flow) ReadFrom(r io.Reader) (int64, error) {
	small := make([]byte, recordHeader+readSmall+recordTag)
	buf := small
	defer func() { f.link.bufs.give(buf) }()
	var total int64
	for {
		room := buf[recordHeader : len(buf)-recordTag]
		n, err := r.Read(room)
		if n > 0 {
			if err := f.send(buf, n); err != nil {
				return total, err
			}
			total += int64(n)
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, &SourceError{err}
		case n == len(room) && len(buf) == len(small):
			buf = f.link.bufs.take()
		case n < readSmall && len(buf) > len(small):
			f.link.bufs.give(buf)
			buf = small
		}
	}
}

// send sends the n bytes that stand in buf behind room for a record's header. The contents of buf are lost.
func (f *Flow) send(buf []byte, n int) error {
	f.sending.Lock()
	defer f.sending.Unlock()
	for done := 0; done < n; {
		m, err := f.sendFrame(buf[recordHeader+done : recordHeader+n])
		if err == errSwitch {
			// What is left moves with its record's header over bytes that are already sent.
			return f.bulk.send(buf[done:], KindData, n-done, f)
		}
		if err != nil {
			return err
		}
		done += m
	}
	return nil
}

// sendFrame sends one frame of b on the link, or says that the direction has left it.
func (f *Flow) sendFrame(b []byte) (int, error) {
	f.mu.Lock()
	for f.err == nil && !f.endOut && f.stage < bulkReady && f.sent >= f.sendLimit {
		f.writable.Wait()
	}
	h := Header{Type: FrameData, Flow: f.id, Offset: f.sent}
	switch {
	case f.err != nil:
		defer f.mu.Unlock()
		return 0, f.err
	case f.endOut:
		f.mu.Unlock()
		return 0, io.ErrClosedPipe
	case f.stage == bulkSwitched:
		f.mu.Unlock()
		return 0, errSwitch
	case f.stage == bulkReady:
		f.stage = bulkSwitched
		f.mu.Unlock()
		h.Type = FrameBulk
		if err := f.link.out.data(h, nil); err != nil {
			return 0, err
		}
		return 0, errSwitch
	}
	n := int(min(uint64(len(b)), f.sendLimit-f.sent, maxData))
	f.sent += uint64(n)
	f.mu.Unlock()
	f.link.spoke()
	if err := f.link.out.data(h, b[:n]); err != nil {
		return 0, err
	}
	f.count(n)
	return n, nil
}

// CloseWrite ends this direction; the other goes on.
func (f *Flow) CloseWrite() error {
	f.sending.Lock()
	defer f.sending.Unlock()
	f.mu.Lock()
	if f.endOut {
		f.mu.Unlock()
		return nil
	}
	if f.err != nil {
		defer f.mu.Unlock()
		return f.err
	}
	f.endOut = true
	h, own := Header{Type: FrameFin, Flow: f.id, Offset: f.sent}, f.stage == bulkSwitched
	f.mu.Unlock()
	var err error
	if own {
		err = f.bulk.send(make([]byte, recordHeader+recordTag), KindFin, 0, f)
	} else {
		f.link.spoke()
		err = f.link.out.data(h, nil)
	}
	if err != nil {
		return err
	}
	f.ended()
	return nil
}
