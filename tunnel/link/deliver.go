package link

import (
	"fmt"
	"io"
)

// Sink takes what a flow brings: rawtcp.Conn.
type Sink interface {
	io.Writer
	trying
	CloseWrite() error
}

// delivery is how far a flow's Deliver has come; guarded by the flow's mu.
type delivery struct {
	to       Sink
	attended bool // a goroutine is at it; else the read loop is, and nothing is left for it
	over     bool // by a goroutine of its own, with this outcome
	came     int64
	err      error
}

// Deliver has everything that the peer sends written to w, and then w's writing side closed. It waits for nothing: the read loop
// writes, as long as w takes at once what comes. Where it does not, or the direction goes on in the flow's own connection, a
// goroutine takes over, so that a flow that moves little has none for this. Delivered must follow.
func (f *Flow) Deliver(w Sink) {
	f.mu.Lock()
	f.delivery = delivery{to: w, attended: true}
	f.sink = w
	b, r := f.recv, f.into
	f.recv, f.into = nil, nil
	f.mu.Unlock()
	if len(b) > 0 { // what came before the device had answered
		n, _ := w.TryWrite(b)
		if n < len(b) {
			f.attend(b, n, r)
			return
		}
		f.mu.Lock()
		f.passed += int64(n)
		f.mu.Unlock()
		f.release(n, r)
	}
	f.mu.Lock()
	idle := f.err != nil || len(f.recv) == 0 && !f.finIn && !f.bulkIn
	f.delivery.attended, f.parked = !idle, idle
	f.mu.Unlock()
	if !idle {
		f.attend(nil, 0, nil)
	}
}

// calledLocked reports whether the read loop has left something that a goroutine must take over now.
func (f *Flow) calledLocked() bool {
	if f.delivery.to == nil || f.delivery.attended || f.err != nil {
		return false
	}
	f.delivery.attended, f.parked = true, false
	return true
}

// attend takes over in a goroutine, first with what is left of b behind the n bytes that are written.
func (f *Flow) attend(b []byte, n int, r *room) {
	if !f.link.spawn(func() { f.deliver(b, n, r) }) {
		f.fail(fmt.Errorf("the link ended: %w", f.link.Err())) // before more comes, for which this would be a gap
		f.release(len(b), r)
		f.mu.Lock()
		f.delivery.attended = false
		f.readable.Broadcast()
		f.mu.Unlock()
	}
}

func (f *Flow) deliver(b []byte, n int, r *room) {
	var (
		came int64
		err  error
	)
	if len(b) > 0 {
		var more int
		more, err = f.delivery.to.Write(b[n:])
		f.mu.Lock()
		f.passed += int64(n + more)
		came = f.passed
		f.mu.Unlock()
		f.release(len(b), r)
	}
	if err == nil {
		came, err = f.WriteTo(f.delivery.to)
	}
	if err == nil {
		err = f.delivery.to.CloseWrite()
	}
	if err != nil {
		f.Reset(ReasonNone, "")
	}
	f.mu.Lock()
	f.delivery.over, f.delivery.attended, f.delivery.came, f.delivery.err = true, false, came, err
	f.readable.Broadcast()
	f.mu.Unlock()
}

// Delivered waits for the end of what Deliver began, and returns how many bytes came and nil after the peer's orderly end. The
// sink's writing side may be open still then, for whoever closes the sink now.
func (f *Flow) Delivered() (int64, error) {
	f.mu.Lock()
	for f.delivery.attended {
		f.readable.Wait()
	}
	if f.delivery.over {
		defer f.mu.Unlock()
		return f.delivery.came, f.delivery.err
	}
	f.delivery.attended, f.parked = true, false
	f.mu.Unlock()
	return f.WriteTo(f.delivery.to)
}

// endDelivery closes the sink's writing side from the read loop, after the peer's last byte was written there.
func (f *Flow) endDelivery(w Sink) {
	if w.CloseWrite() != nil {
		f.Reset(ReasonNone, "")
	}
	f.ended()
}
