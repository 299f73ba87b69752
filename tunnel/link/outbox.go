package link

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// outFull is when writers of data must wait, outLimit when a peer that reads nothing but makes us answer is given up.
	outFull  = 64 << 10
	outLimit = 4 << 20
	// stall is how long one write may take before the link counts as dead.
	stall = 20 * time.Second
	// crowded is how many batches others are waited for after somebody had something to add to one.
	crowded = 16
)

// outbox gathers frames and writes them in batches. Control frames never wait in it, data waits while it is full. A writer of
// data who finds nobody writing takes one batch to the socket himself; the rest is the flusher's.
type outbox struct {
	conn net.Conn

	mu      sync.Mutex
	room    sync.Cond // data may be added again
	buf     []byte
	spare   []byte
	writing bool
	crowd   int           // batches that are still to wait for others
	renew   time.Time     // the write deadline, after this; of the one who writes
	wake    chan struct{} // of the flusher
	err     error
	done    chan struct{}
}

func newOutbox(conn net.Conn) *outbox {
	o := &outbox{conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	o.room.L = &o.mu
	return o
}

// control adds a frame without waiting. It reports false where the peer has let too much pile up.
func (o *outbox) control(h Header, data []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.appendLocked(h, data)
	o.wakeLocked()
	return len(o.buf) < outLimit
}

// data adds a frame, waits while the box is full, and writes it where nobody else is at it.
func (o *outbox) data(h Header, data []byte) error {
	o.mu.Lock()
	for len(o.buf) >= outFull && o.err == nil {
		o.room.Wait()
	}
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	o.appendLocked(h, data)
	if o.writing {
		o.crowd = crowded
		o.mu.Unlock()
		return nil
	}
	if o.crowd > 0 {
		o.gatherLocked()
	}
	err := o.flushLocked()
	if len(o.buf) > 0 {
		o.wakeLocked()
	}
	o.mu.Unlock()
	return err
}

// gatherLocked lets everybody who is ready to run add his frames to the batch: one system call and one wake-up at the other
// end for all of them. A flow that is alone does not wait for others.
func (o *outbox) gatherLocked() {
	before := len(o.buf)
	o.writing = true
	o.mu.Unlock()
	runtime.Gosched()
	o.mu.Lock()
	if len(o.buf) == before {
		o.crowd--
	}
}

// offer adds a datagram where there is room, and waits for nothing.
func (o *outbox) offer(h Header, data []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) >= outFull || o.err != nil {
		return false
	}
	o.appendLocked(h, data)
	o.wakeLocked()
	return true
}

func (o *outbox) appendLocked(h Header, data []byte) {
	if o.err != nil {
		return
	}
	h.Length = len(data)
	o.buf = AppendHeader(o.buf, h)
	o.buf = append(o.buf, data...)
}

func (o *outbox) wakeLocked() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// flushLocked writes one batch; the lock is free meanwhile.
func (o *outbox) flushLocked() error {
	batch := o.buf
	o.buf, o.spare = o.spare[:0], nil
	o.writing = true
	o.mu.Unlock()
	if now := time.Now(); now.After(o.renew) {
		o.renew = now.Add(stall / 4) // now and then: a deadline costs more than a small frame
		_ = o.conn.SetWriteDeadline(now.Add(stall + stall/4))
	}
	_, err := o.conn.Write(batch)
	o.mu.Lock()
	o.writing = false
	if cap(batch) <= 4*outFull {
		o.spare = batch[:0]
	}
	if len(o.buf) == 0 && len(batch) < 1<<10 && cap(batch) > 1<<14 {
		o.spare = nil // idle links keep no buffers
	}
	if err != nil && o.err == nil {
		o.err = err
	}
	o.room.Broadcast()
	return o.err
}

// run is the flusher. It returns the first error.
func (o *outbox) run() error {
	for {
		select {
		case <-o.wake:
		case <-o.done:
			return net.ErrClosed
		}
		o.mu.Lock()
		for len(o.buf) > 0 && !o.writing && o.err == nil {
			_ = o.flushLocked()
		}
		err := o.err
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// close lets every waiting writer go.
func (o *outbox) close(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	select {
	case <-o.done:
	default:
		close(o.done)
	}
	o.room.Broadcast()
	o.mu.Unlock()
}

// drain waits until everything said so far is on its way, at most for limit.
func (o *outbox) drain(limit time.Duration) {
	timer := time.AfterFunc(limit, func() {
		o.mu.Lock()
		o.room.Broadcast()
		o.mu.Unlock()
	})
	defer timer.Stop()
	end := time.Now().Add(limit)
	o.mu.Lock()
	defer o.mu.Unlock()
	for (len(o.buf) > 0 || o.writing) && o.err == nil && time.Now().Before(end) {
		o.room.Wait()
	}
}
