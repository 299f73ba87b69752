package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"culvert/protocol"
)

// loose is a link without a connection and without goroutines.
func loose() *Link {
	return &Link{cfg: Config{Role: RoleTunnel, PromoteAfter: -1, Limits: Limits{}.withDefaults()}, out: newOutbox(nil), start: time.Now(),
		flows: make(map[uint64]*Flow), look: make(chan struct{}, 1)}
}

// narrow is a sink that takes so many bytes at once.
type narrow struct {
	bytes.Buffer
	room  int
	ended bool
}

func (n *narrow) TryWrite(b []byte) (int, error) {
	b = b[:min(len(b), n.room)]
	n.room -= len(b)
	return n.Write(b)
}

func (n *narrow) CloseWrite() error {
	n.ended = true
	return nil
}

// Where the link's end comes while the read loop calls a goroutine, whoever waits for that goroutine is told.
func TestDeliveredWhereTheLinkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loose()
		f := newFlow(l, newFlowID(l.number, 1), Open{})
		f.Deliver(&narrow{})
		f.mu.Lock()
		called := f.calledLocked()
		f.mu.Unlock()
		end := make(chan error, 1)
		go func() {
			_, err := f.Delivered()
			end <- err
		}()
		synctest.Wait()
		l.err = ErrDead // as end does
		f.fail(ErrDead)
		synctest.Wait()
		f.attend(nil, 0, nil)
		if err := <-end; !called || !errors.Is(err, ErrDead) {
			t.Errorf("called %t, ended with %v", called, err)
		}
	})
}

// A flow whose link has ended while bytes of it were left delivers no later ones, and no end, though the read loop has them.
func TestNothingComesBehindAGap(t *testing.T) {
	l := loose()
	f := newFlow(l, newFlowID(l.number, 1), Open{})
	if err := f.handle(Header{Type: FrameData}, []byte("first")); err != nil {
		t.Fatal(err)
	}
	l.err = ErrDead
	sink := &narrow{room: 3}
	f.Deliver(sink)
	for _, err := range []error{
		f.handle(Header{Type: FrameData, Offset: 5}, []byte("second")),
		f.handle(Header{Type: FrameFin, Offset: f.received}, nil),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := f.Delivered(); !errors.Is(err, ErrDead) {
		t.Errorf("ended with %v", err)
	}
	if sink.String() != "fir" || sink.ended {
		t.Errorf("%q came, end %t", sink, sink.ended)
	}
	if n := l.buffered.Load(); n != 0 {
		t.Errorf("%d bytes left in the account", n)
	}
}

// An OPEN that was read before the link's end and is handled after it makes no flow, which nobody would end.
func TestNoFlowBehindTheEnd(t *testing.T) {
	l := loose()
	l.cfg.Serve = func(context.Context, *Flow) {}
	l.cfg.Go = func(func()) { t.Error("it is served") }
	l.err = ErrDead
	open := Open{Port: 1, Protocol: protocol.TCP}
	if err := l.handle(Header{Type: FrameOpen, Flow: newFlowID(l.number, 1)}, open.Append(nil)); err != ErrDead {
		t.Errorf("taken with %v", err)
	}
	if n := l.Flows(); n != 0 {
		t.Errorf("%d flows", n)
	}
}

// writing is a connection that does something while it writes.
type writing struct {
	net.Conn
	on     func()
	closed bool
}

func (w *writing) Close() error {
	w.closed = true
	return nil
}

func (w *writing) Write(b []byte) (int, error) {
	if w.on(); w.closed {
		return 0, net.ErrClosed
	}
	return len(b), nil
}

// The peer's end, coming while this side's is being written to the flow's own connection, does not close that before.
func TestBothEndsAtOnce(t *testing.T) {
	l := loose()
	f := newFlow(l, newFlowID(l.number, 1), Open{})
	out, err := newDirection([32]byte{1}, rekeyEvery)
	if err != nil {
		t.Fatal(err)
	}
	sink := &narrow{}
	f.Deliver(sink)
	conn := &writing{on: func() {
		if err := f.handle(Header{Type: FrameFin}, nil); err != nil {
			t.Error(err)
		}
	}}
	f.bulk, f.stage = &bulk{conn: conn, out: out}, bulkSwitched
	if err := f.CloseWrite(); err != nil {
		t.Error(err)
	}
	if err := fmt.Sprint(f.Err()); err != "EOF" || !sink.ended || !conn.closed {
		t.Errorf("ended with %s, the device's end %t", err, sink.ended)
	}
}
