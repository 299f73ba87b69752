package tunnel

import (
	"context"
	"errors"
	"net"
	"time"

	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
)

const (
	// quiet is how long a link may have been silent for bytes to follow an OPEN unanswered. Behind a longer silence the
	// first bytes wait for the answer, so that a link found dead costs the connection another way and not its life. Links in use
	// are never silent for so long.
	quiet = 2500 * time.Millisecond
	// tries is how many ways a connection may find dead before it is given up.
	tries = 3
)

// accept serves the local port until the tunnel closes.
func (t *Tunnel) accept() {
	for {
		raw, err := t.listener.AcceptConn()
		if err != nil {
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors: it passes
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		conn := raw.TCPConn
		room := t.m.cfg.Descriptors.Tunnel(conn)
		t.mu.Lock()
		if !room {
			t.lastErr = errNoRoom
		}
		if !room || t.closed || len(t.conns) >= t.m.cfg.Limits.Connections {
			t.mu.Unlock()
			abort(conn)
			continue
		}
		t.conns[conn] = nil
		t.wg.Add(1)
		t.m.crew.Go(func() {
			defer t.wg.Done()
			err := t.serve(raw)
			t.mu.Lock()
			delete(t.conns, conn)
			if err != nil {
				t.lastErr = err
			}
			t.mu.Unlock()
		})
		t.mu.Unlock()
	}
}

// serve carries one local connection. One that found its link dead before the device was asked tries another.
func (t *Tunnel) serve(conn *rawtcp.Conn) error {
	t.total.Add(1)
	p, f, err := t.openFlow(t.ctx, false)
	if err != nil {
		abort(conn.TCPConn)
		return err
	}
	if p.link == nil {
		return t.serveSelf(conn.TCPConn, p)
	}
	return t.judge(p, t.carry(conn, f))
}

// carry carries a connection that is among conns until it has ended, or the tunnel has.
func (t *Tunnel) carry(conn *rawtcp.Conn, f *link.Flow) error {
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.conns[conn.TCPConn] = f
	}
	t.mu.Unlock()
	if closed {
		f.Reset(link.ReasonClosing, "")
	}
	sent, got, err := pump(conn, f)
	t.sent.Add(sent)
	t.got.Add(got)
	return err
}

// openFlow opens a flow on the tunnel's path, or on the next one where the link turns out to be dead before the device was
// asked. Where this node itself reaches the device there is no flow. await: only a flow that the device has answered will do.
func (t *Tunnel) openFlow(ctx context.Context, await bool) (p *path, f *link.Flow, err error) {
	wait := &patience{Context: ctx, limit: t.m.cfg.OpenTimeout}
	defer wait.end()
	for range tries {
		if p, err = t.way(wait); err != nil {
			return nil, nil, err
		}
		if p.link == nil {
			return p, nil, nil
		}
		f, err = p.link.Open(link.Open{Device: t.deviceID(), Port: t.req.Port, Protocol: t.req.Protocol})
		if err == nil && (await || p.link.Silence() > quiet) {
			if err = answered(wait, f); err != nil {
				f.Close()
			}
		}
		if err == nil {
			return p, f, nil
		}
		if err = t.judge(p, err); p.alive() || wait.Err() != nil {
			break
		}
	}
	return nil, nil, err
}

// judge says what the end of a connection means for the path it took.
func (t *Tunnel) judge(p *path, err error) error {
	if err == nil {
		return nil
	}
	err = flowError(err)
	var reset *link.ResetError
	if errors.As(err, &reset) && reset.Reason.Device() {
		err = fromReason(reset.Reason, reset.Text)
	}
	for _, e := range []error{ErrDeviceNotFound, ErrDeviceUnreachable, ErrUnknownDevice, ErrNotAllowed, ErrRevoked, ErrLimit} {
		if errors.Is(err, e) {
			t.leave(p)
		}
	}
	return err
}

func (t *Tunnel) serveSelf(conn *net.TCPConn, p *path) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.m.cfg.OpenTimeout)
	defer cancel()
	w, err := t.wanted(ctx)
	if err == nil {
		var device *net.TCPConn
		device, err = t.m.connectSelf(ctx, w)
		if err == nil {
			sent, got, err := pumpTCP(t.ctx, conn, device)
			t.sent.Add(sent)
			t.got.Add(got)
			return err
		}
	}
	abort(conn)
	return t.judge(p, err)
}

// wanted is what the tunnel leads to by the records of now, which may have changed since it was opened.
func (t *Tunnel) wanted(ctx context.Context) (want, error) {
	me, err := t.m.member(t.local)
	if err != nil {
		return want{}, err
	}
	dev, err := t.m.cfg.Resolver.Device(ctx, t.req.Domain, t.req.Device)
	return want{me: me, device: dev, port: t.req.Port, proto: t.req.Protocol}, err
}
