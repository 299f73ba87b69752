package tunnel

import (
	"context"
	"net"

	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
)

// OpenBare is Open without a local port: the tunnel is for connections that are handed to Carry.
func (m *Manager) OpenBare(ctx context.Context, q OpenRequest) (*Tunnel, error) {
	t, err := m.openBare(ctx, q)
	if err != nil {
		m.counts.failed.Add(1)
		return nil, err
	}
	m.counts.opened.Add(1)
	return t, nil
}

func (m *Manager) openBare(ctx context.Context, q OpenRequest) (*Tunnel, error) {
	t, err := m.newTunnel(q, "")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, t.cancel)
	_, err = t.way(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	m.mu.Lock()
	switch {
	case err != nil:
	case m.closed:
		err = ErrClosed
	case len(m.tunnels) >= m.cfg.Limits.Tunnels || m.tunnels[t.id] != nil:
		err = ErrLimit
	default:
		m.tunnels[t.id] = t
	}
	m.mu.Unlock()
	if err != nil {
		t.Close()
		return nil, err
	}
	m.began(t.local.Domain())
	return t, nil
}

// Closed reports whether the tunnel was closed.
func (t *Tunnel) Closed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// Carry carries a connection that somebody else has accepted, until it has ended or ctx has. Other than at the local port,
// the device's answer comes first: then answered is called, and bytes go from and to conn when it has returned nil. Where
// Carry returns before that, conn is the caller's as before; else it is closed.
func (t *Tunnel) Carry(ctx context.Context, conn *net.TCPConn, answered func() error) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	t.wg.Add(1)
	t.mu.Unlock()
	defer t.wg.Done()
	t.total.Add(1)
	err := t.bring(ctx, conn, func() error {
		if err := t.hold(conn); err != nil {
			return err
		}
		err := answered()
		if err != nil {
			abort(conn)
		}
		return err
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
	if err != nil {
		t.lastErr = err
	}
	return err
}

// hold makes the connection one that Close ends.
func (t *Tunnel) hold(conn *net.TCPConn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case len(t.conns) >= t.m.cfg.Limits.Connections:
		return ErrLimit
	}
	t.conns[conn] = nil
	return nil
}

func (t *Tunnel) bring(ctx context.Context, conn *net.TCPConn, answer func() error) error {
	octx, cancel := context.WithTimeout(ctx, t.m.cfg.OpenTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	p, f, err := t.openFlow(octx, true)
	if err != nil {
		return err
	}
	if p.link == nil {
		return t.bringSelf(ctx, octx, conn, answer, p)
	}
	if err := answer(); err != nil {
		f.Close()
		return err
	}
	defer context.AfterFunc(ctx, func() { f.Reset(link.ReasonClosing, "") })()
	return t.judge(p, t.carry(rawtcp.New(conn), f))
}

// bringSelf is bring for a device that this node reaches itself.
func (t *Tunnel) bringSelf(ctx, octx context.Context, conn *net.TCPConn, answer func() error, p *path) error {
	w, err := t.wanted(octx)
	if err != nil {
		return t.judge(p, err)
	}
	device, err := t.m.connectSelf(octx, w)
	if err != nil {
		return t.judge(p, err)
	}
	if err := answer(); err != nil {
		abort(device)
		return err
	}
	defer context.AfterFunc(ctx, func() { abort(conn); abort(device) })()
	sent, got, err := pumpTCP(t.ctx, conn, device)
	t.sent.Add(sent)
	t.got.Add(got)
	return err
}
