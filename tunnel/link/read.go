package link

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"culvert/protocol"
)

// readFrame reads one frame into scratch, which grows to at most a frame's length.
func readFrame(r io.Reader, scratch []byte) (Header, []byte, error) {
	if cap(scratch) < headerSize {
		scratch = make([]byte, headerSize)
	}
	if _, err := io.ReadFull(r, scratch[:headerSize]); err != nil {
		return Header{}, scratch, err
	}
	h, err := ParseHeader(scratch[:headerSize])
	if err != nil {
		return h, scratch, err
	}
	if cap(scratch) < h.Length {
		scratch = make([]byte, h.Length)
	}
	scratch = scratch[:h.Length]
	_, err = io.ReadFull(r, scratch)
	return h, scratch, err
}

// read handles the peer's frames until the link ends. It waits for nothing but the peer.
func (l *Link) read() error {
	r := bufio.NewReaderSize(l.conn, 8<<10)
	var scratch []byte
	for {
		h, data, err := readFrame(r, scratch)
		if err != nil {
			return truncated(err)
		}
		scratch = data
		l.touch()
		if err := l.handle(h, data); err != nil {
			return err
		}
	}
}

func (l *Link) handle(h Header, data []byte) error {
	switch h.Type {
	case FramePing:
		return l.control(Header{Type: FramePong, Offset: h.Offset}, nil)
	case FramePong:
		return nil
	case FrameNews:
		if l.cfg.News != nil {
			l.cfg.News(l)
		}
		return nil
	case FrameHello:
		return l.renewed(data)
	case FrameGoAway:
		reason, text, err := ParseReason(data)
		if err != nil {
			return err
		}
		return &GoneError{Reason: reason, Text: text}
	case FrameOpen:
		return l.accept(h, data)
	case FrameOpened, FrameRefused, FrameData, FrameWindow, FrameFin, FrameReset, FrameBulk, FrameDatagram, FrameMeet:
	default:
		return nil
	}
	if h.Flow.Link() != l.number {
		return fmt.Errorf("%w: flow of another link", ErrFrame)
	}
	l.mu.Lock()
	f, counter := l.flows[h.Flow.Counter()], l.counter
	l.mu.Unlock()
	if f == nil {
		if h.Flow.Counter() > counter {
			return fmt.Errorf("%w: flow was never opened", ErrFrame)
		}
		return nil // crossed with the flow's end
	}
	return f.handle(h, data)
}

func (l *Link) renewed(data []byte) error {
	hello, err := ParseHello(data)
	if err != nil {
		return err
	}
	hello.Node = append([]byte(nil), hello.Node...)
	peer, err := l.admit(hello, true)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if peer.Sequence >= l.peer.Sequence {
		l.peer = peer
	}
	l.mu.Unlock()
	return nil
}

// accept starts a flow that the peer opens.
func (l *Link) accept(h Header, data []byte) error {
	open, err := ParseOpen(data)
	if err != nil {
		return err
	}
	if l.cfg.Role != RoleTunnel || l.cfg.Serve == nil || h.Flow.Link() != l.number {
		return fmt.Errorf("%w: open", ErrFrame)
	}
	l.mu.Lock()
	if l.err != nil { // nobody would end the flow
		defer l.mu.Unlock()
		return l.err
	}
	if h.Flow.Counter() <= l.counter {
		l.mu.Unlock()
		return fmt.Errorf("%w: flow ID used before", ErrFrame)
	}
	l.counter = h.Flow.Counter()
	l.inUse()
	if len(l.flows) >= l.cfg.Limits.Flows || l.pending >= l.cfg.Limits.Opening {
		l.mu.Unlock()
		return l.control(Header{Type: FrameRefused, Flow: h.Flow}, AppendReason(nil, ReasonLimit, "of this link"))
	}
	f := newFlow(l, h.Flow, open)
	l.flows[h.Flow.Counter()] = f
	l.pending++
	l.mu.Unlock()
	l.wg.Add(1)
	l.cfg.Go(func() {
		defer l.wg.Done()
		l.cfg.Serve(l.ctx, f)
		f.answered()
		f.Close()
	})
	return nil
}

// meet joins the peer at the relay for a flow's own connection, beside the read loop.
func (l *Link) meet(f *Flow, data []byte) error {
	if len(data) < len(protocol.Hash{}) || l.cfg.Dialler || l.cfg.Meet == nil {
		return fmt.Errorf("%w: meet", ErrFrame)
	}
	token := protocol.Hash(data[:32])
	if !f.meetOnce() || int(l.meets.Load()) >= l.cfg.Limits.Bulk {
		return nil // a repeated or surplus call is not worth a connection; the flow stays on the link
	}
	l.meets.Add(1)
	l.wg.Go(func() {
		defer l.meets.Add(-1)
		ctx, cancel := context.WithTimeout(l.ctx, bulkTimeout)
		defer cancel()
		conn, err := l.cfg.Meet(ctx, token)
		if err != nil {
			return
		}
		flow, proof, err := ReadPreface(conn, time.Now().Add(bulkTimeout))
		if err != nil || flow != f.id {
			_ = conn.Close()
			return
		}
		_ = l.AcceptBulk(conn, flow, proof)
	})
	return nil
}

// control sends a frame that waits for nothing; an error means that the peer lets too much pile up.
func (l *Link) control(h Header, data []byte) error {
	if h.Type != FramePong && h.Type != FramePing && h.Type != FrameWindow && h.Type != FrameNews {
		l.spoke()
	}
	if !l.out.control(h, data) {
		return fmt.Errorf("%w: it asks and does not read", ErrDead)
	}
	return nil
}

// touch notes that the peer was heard.
func (l *Link) touch() { l.heard.Store(int64(time.Since(l.start))) }

// spoke notes that something was said that wants to be heard of. It wakes the watch only where that would look too late: a
// wakened goroutine costs more than the frame.
func (l *Link) spoke() {
	said, heard := l.said.Load(), l.heard.Load()
	if said > heard {
		return
	}
	now := int64(time.Since(l.start)) + 1
	l.said.Store(now)
	if l.due.Load() > now+int64(l.cfg.Timing.Ask) {
		l.wakeWatch()
	}
}

// inUse notes that flows use the link.
func (l *Link) inUse() {
	now := int64(time.Since(l.start))
	if was := l.active.Swap(max(now, 1)); was == 0 || now-was > int64(l.cfg.Timing.Recent) {
		l.wakeWatch() // which looks seldom while nothing moves
	}
}

func (l *Link) wakeWatch() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// watch asks a silent peer whether it lives.
func (l *Link) watch() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	var number uint64
	for {
		select {
		case <-l.done:
			return ErrClosed
		case <-l.look:
		case <-timer.C:
		}
		now := time.Now()
		said := l.said.Load()
		p := pulse{
			heard: l.start.Add(time.Duration(l.heard.Load())), said: l.start.Add(time.Duration(said)), asked: asked,
		}
		if used := l.active.Load(); used > 0 {
			p.used = l.start.Add(time.Duration(used))
		}
		what, due := l.cfg.Timing.check(now, p)
		if l.nudged.Swap(false) && what == watchOn && (p.asked.IsZero() || !p.heard.Before(p.asked)) {
			what, due = watchAsk, now.Add(l.cfg.Timing.Answer)
		}
		switch what {
		case watchDead:
			return ErrDead
		case watchAsk:
			asked = now
			l.asked.Store(int64(now.Sub(l.start)))
			number++
			if err := l.control(Header{Type: FramePing, Offset: number}, nil); err != nil {
				return err
			}
		}
		l.due.Store(int64(due.Sub(l.start)))
		if l.said.Load() != said {
			due = now // said meanwhile by somebody who did not see when the watch looks next
		}
		timer.Reset(time.Until(due))
	}
}
