package link

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/rawtcp"
)

// bulkTimeout bounds the making of a flow's own connection.
const bulkTimeout = 10 * time.Second

// bulkKeepAlive opens a NAT that forgot a flow's own connection again from the inside, and finds out when it stays shut: the
// link's PINGs say nothing about this connection.
func bulkKeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}
}

// ErrPreface marks a connection that is not the one a flow waits for.
var ErrPreface = errors.New("link: no flow waits for this connection")

// bulkStage is how far a flow is on its way to a connection of its own. The order matters: from bulkReady on this side's
// direction may leave the link.
type bulkStage byte

const (
	bulkNone bulkStage = iota
	bulkFailed
	bulkDialling // or, on the accepting side, proving
	bulkReady
	bulkSwitched
)

// bulk is a flow's own connection.
type bulk struct {
	conn net.Conn
	in   *direction
	out  *direction
	once sync.Once
}

func (b *bulk) close() { b.once.Do(func() { _ = b.conn.Close() }) }

// newBulk keys a connection for one end.
func (l *Link) newBulk(conn net.Conn, k flowKeys) (*bulk, error) {
	in, out := k.toAcceptor, k.toDialler
	if l.cfg.Dialler {
		in, out = out, in
	}
	b := &bulk{conn: conn}
	if c, ok := conn.(*net.TCPConn); ok {
		b.conn = rawtcp.New(c)
	}
	if c, ok := conn.(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		_ = c.SetKeepAliveConfig(bulkKeepAlive())
	}
	var err error
	if b.in, err = newDirection(in, rekeyEvery); err != nil {
		return nil, err
	}
	b.out, err = newDirection(out, rekeyEvery)
	return b, err
}

// promote starts a connection of the flow's own where this side dials and there is room. It does not wait.
func (f *Flow) promote() {
	l := f.link
	if !l.cfg.Dialler || l.cfg.DialBulk == nil {
		return
	}
	f.mu.Lock()
	if f.stage != bulkNone || f.err != nil || !f.opened || f.endOut && f.finIn {
		f.mu.Unlock()
		return
	}
	if int(l.bulks.Add(1)) > l.cfg.Limits.Bulk {
		l.bulks.Add(-1)
		f.stage = bulkFailed
		f.mu.Unlock()
		return
	}
	f.stage = bulkDialling
	f.mu.Unlock()
	if !l.spawn(func() { f.dialBulk() }) {
		l.bulks.Add(-1)
	}
}

// spawn runs fn as long as the link lives and waits for it at its end.
func (l *Link) spawn(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false
	}
	l.wg.Go(fn)
	return true
}

func (f *Flow) dialBulk() {
	l := f.link
	ctx, cancel := context.WithTimeout(l.ctx, bulkTimeout)
	defer cancel()
	conn, err := l.cfg.DialBulk(ctx, func(token protocol.Hash) error {
		return l.control(Header{Type: FrameMeet, Flow: f.id}, token[:])
	})
	var b *bulk
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		b, err = f.prove(conn)
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
		}
	}
	f.attach(b, err)
}

// prove opens a dialled connection: preface out, READY in, READY out.
func (f *Flow) prove(conn net.Conn) (*bulk, error) {
	k, err := deriveFlow(f.link.secret, f.id)
	if err != nil {
		return nil, err
	}
	b, err := f.link.newBulk(conn, k)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(bulkTimeout))
	if _, err := conn.Write(AppendPreface(nil, f.id, k.proof)); err != nil {
		return nil, err
	}
	if err := b.hearReady(); err != nil {
		return nil, err
	}
	if err := b.sayReady(); err != nil {
		return nil, err
	}
	return b, conn.SetDeadline(time.Time{})
}

func (b *bulk) sayReady() error {
	rec, err := b.out.seal(make([]byte, recordHeader+recordTag), KindReady, 0)
	if err == nil {
		_, err = b.conn.Write(rec)
	}
	return err
}

func (b *bulk) hearReady() error {
	kind, _, err := b.in.open(b.conn, func(n int) []byte { return make([]byte, min(n, recordTag)) })
	if err == nil && kind != KindReady {
		err = fmt.Errorf("%w: kind %d before ready", ErrRecord, kind)
	}
	return err
}

// attach gives the flow its own connection, or notes that it gets none; the counted place is given back then.
func (f *Flow) attach(b *bulk, err error) {
	f.mu.Lock()
	if err == nil && f.err != nil {
		err = f.err
	}
	if err != nil {
		if f.stage == bulkDialling {
			f.stage = bulkFailed
		}
		lost := f.bulkIn && f.err == nil
		f.readable.Broadcast()
		f.mu.Unlock()
		if b != nil {
			b.close()
		}
		f.link.bulks.Add(-1)
		if lost {
			f.Reset(ReasonInternal, "the flow's own connection failed")
		}
		return
	}
	f.bulk, f.stage = b, bulkReady
	f.readable.Broadcast()
	f.writable.Broadcast()
	f.mu.Unlock()
}

// ReadPreface reads the preface of a flow's own connection, which names the link it belongs to.
func ReadPreface(conn net.Conn, deadline time.Time) (FlowID, [32]byte, error) {
	_ = conn.SetReadDeadline(deadline)
	var b [prefaceSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return FlowID{}, [32]byte{}, fmt.Errorf("link: preface: %w", err)
	}
	return ParsePreface(b[:])
}

// AcceptBulk takes a connection whose preface names one of the link's flows. It returns when the connection is the flow's,
// or was closed.
func (l *Link) AcceptBulk(conn net.Conn, flow FlowID, proof [32]byte) error {
	f, k, err := l.expectBulk(flow, proof)
	if err != nil {
		_ = conn.Close()
		return err
	}
	b, err := l.newBulk(conn, k)
	if err == nil {
		stop := context.AfterFunc(l.ctx, func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(bulkTimeout))
		if err = b.sayReady(); err == nil {
			err = b.hearReady()
		}
		if !stop() && err == nil {
			err = ErrClosed
		}
		_ = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
	}
	f.attach(b, err)
	return err
}

// expectBulk spends the flow's one preface.
func (l *Link) expectBulk(flow FlowID, proof [32]byte) (*Flow, flowKeys, error) {
	if l.cfg.Dialler || flow.Link() != l.number {
		return nil, flowKeys{}, ErrPreface
	}
	l.mu.Lock()
	f := l.flows[flow.Counter()]
	l.mu.Unlock()
	if f == nil {
		return nil, flowKeys{}, ErrPreface
	}
	k, err := deriveFlow(l.secret, flow)
	if err != nil {
		return nil, k, err
	}
	if subtle.ConstantTimeCompare(k.proof[:], proof[:]) != 1 {
		return nil, k, fmt.Errorf("%w: proof", ErrPreface)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage != bulkNone || f.err != nil {
		return nil, k, fmt.Errorf("%w: it has had one", ErrPreface)
	}
	if int(l.bulks.Add(1)) > l.cfg.Limits.Bulk {
		l.bulks.Add(-1)
		return nil, k, ErrTooMany
	}
	f.stage = bulkDialling
	return f, k, nil
}

// send seals and writes one record from buf, in which n bytes stand behind room for the header. A part longer than a
// record may be does not occur: buf holds one record.
func (b *bulk) send(buf []byte, kind Kind, n int, f *Flow) error {
	rec, err := b.out.seal(buf, kind, n)
	if err != nil {
		return err
	}
	if _, err := b.conn.Write(rec); err != nil {
		return fmt.Errorf("link: the flow's own connection: %w", err)
	}
	if n > 0 {
		f.count(n)
	}
	return nil
}

// readTo writes everything that comes in records to w; io.EOF after the peer's FIN.
func (b *bulk) readTo(w io.Writer, f *Flow) (int64, error) {
	var total int64
	var into *room
	lend := func(n int) []byte {
		into = roomFor(n)
		return into.b
	}
	defer func() { into.give() }()
	for {
		kind, plain, err := b.in.open(b.conn, lend)
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.err != nil {
				return total, f.err
			}
			return total, fmt.Errorf("link: the flow's own connection: %w", err)
		}
		f.link.touch()
		if kind == KindFin {
			return total, io.EOF
		}
		if kind != KindData {
			return total, fmt.Errorf("%w: kind %d", ErrRecord, kind)
		}
		n, err := w.Write(plain)
		total += int64(n)
		f.count(len(plain))
		into.give()
		into = nil
		if err != nil {
			return total, err
		}
	}
}
