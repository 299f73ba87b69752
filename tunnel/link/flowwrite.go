package link

import (
	"errors"
	"io"
	"time"

	"culvert/protocol/rawtcp"
)

var errSwitch = errors.New("link: the direction goes on in the flow's own connection")

// SourceError is a failure of what ReadFrom reads, told apart from one of the flow.
type SourceError struct{ Err error }

// Error implements error.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap is the reader's own error.
func (e *SourceError) Unwrap() error { return e.Err }

// Write sends b in order. It waits for the peer's window.
func (f *Flow) Write(b []byte) (int, error) {
	o := outgoing{size: roomLink, least: roomLink}
	defer o.Return()
	done := 0
	for done < len(b) {
		n := copy(o.Lend(), b[done:])
		if err := f.send(o.room.b, n); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// lending is a source that wants room only when it has something to read: rawtcp.Conn.
type lending interface {
	ReadLent(l rawtcp.Lender) (int, error)
}

// ReadFrom sends everything that r gives. From a source that is lending it holds a buffer only while there is something to
// send, from others a small one while they are not busy. A failure of r is a *SourceError.
func (f *Flow) ReadFrom(r io.Reader) (int64, error) {
	source, lends := r.(lending)
	o := &outgoing{}
	if lends {
		o.size, o.least = 1, 1
	}
	defer func() { o.Return() }()
	var total int64
	for {
		var n int
		var err error
		if lends {
			n, err = source.ReadLent(o)
		} else {
			n, err = r.Read(o.Lend())
		}
		if n > 0 {
			before := time.Now()
			if err := f.send(o.room.b, n); err != nil {
				return total, err
			}
			total += int64(n)
			most := roomLink
			if f.switched() {
				most = roomMost
			}
			o.sent(n, most, time.Since(before))
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, &SourceError{err}
		case lends:
			o.Return()
		}
	}
}

// switched reports whether this side's direction goes on in the flow's own connection.
func (f *Flow) switched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stage == bulkSwitched
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
	f.mu.Lock()
	f.endOut = true // not before: the peer's end would close the flow's own connection
	f.mu.Unlock()
	f.ended()
	return nil
}
