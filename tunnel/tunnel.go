package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

const (
	// quiet is how long a link may have been silent for bytes to follow an OPEN unanswered. Behind a longer silence the
	// first bytes wait for the answer, so that a link found dead costs the connection a detour and not its life.
	quiet = 5 * time.Second
	// mostBackoff bounds how rarely a better route is looked for.
	mostBackoff = 10 * time.Minute
)

// Tunnel is one local address behind which a device's port is.
type Tunnel struct {
	m      *Manager
	id     string
	local  protocol.ID
	req    OpenRequest
	since  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	sent   atomic.Int64
	got    atomic.Int64
	total  atomic.Int64

	mu       sync.Mutex
	listener *net.TCPListener
	device   Device
	path     *path
	racing   *racing
	receipt  Receipt
	lastErr  error
	improved time.Time // when a better way was last looked for
	backoff  time.Duration
	closed   bool
	conns    map[*net.TCPConn]struct{}
}

// racing is a race that everybody who needs a way waits for.
type racing struct {
	done chan struct{}
	path *path
	err  error
}

// Info is what a tunnel looks like from outside.
type Info struct {
	ID         string
	Domain     protocol.Domain
	Device     protocol.ID
	Name       string
	Port       uint16
	Protocol   protocol.Transport
	Local      netip.AddrPort
	Route      Route // empty while there is none
	TunnelNode protocol.ID
	Relay      protocol.ID
	Since      time.Time
	Persist    bool
	Caller     string
	Open       int // connections now
	Receipt    Receipt
	Error      string // of the latest connection that failed
}

// ID names the tunnel on this node.
func (t *Tunnel) ID() string { return t.id }

// Local is the address to connect to.
func (t *Tunnel) Local() netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listener == nil {
		return netip.AddrPort{}
	}
	a := t.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Info is the tunnel as it is now, with its receipt.
func (t *Tunnel) Info() Info {
	local := t.Local()
	t.mu.Lock()
	defer t.mu.Unlock()
	i := Info{
		ID: t.id, Domain: t.req.Domain, Device: t.device.ID, Name: t.device.Value.Name, Port: t.req.Port,
		Protocol: t.req.Protocol, Local: local, Since: t.since, Persist: t.req.Persist, Caller: t.req.Caller,
		Open: len(t.conns), Receipt: t.receipt,
	}
	if t.path != nil && t.path.alive() {
		i.Route, i.TunnelNode, i.Relay = t.path.route, t.path.node, t.path.relay
	}
	i.Receipt.Sent, i.Receipt.Received, i.Receipt.Conns = t.sent.Load(), t.got.Load(), t.total.Load()
	if t.lastErr != nil {
		i.Error = t.lastErr.Error()
	}
	return i
}

func (t *Tunnel) found(d Device) {
	t.mu.Lock()
	t.device = d
	t.mu.Unlock()
}

// way is the living path, or the one that a race finds; all who need one meanwhile share the race.
func (t *Tunnel) way(ctx context.Context) (*path, error) {
	t.mu.Lock()
	if t.path != nil && t.path.alive() {
		defer t.mu.Unlock()
		return t.path, nil
	}
	r := t.racing
	if r == nil {
		if t.closed {
			t.mu.Unlock()
			return nil, ErrClosed
		}
		r = &racing{done: make(chan struct{})}
		t.racing = r
		again := t.path != nil
		t.wg.Go(func() { t.runRace(r, again) })
	}
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.path, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *Tunnel) runRace(r *racing, again bool) {
	p, receipt, err := t.m.raceFor(t.ctx, t, t.req.Routes, true)
	if err == nil && again {
		t.m.counts.rerouted.Add(1)
	}
	r.path, r.err = p, err
	t.mu.Lock()
	receipt.Races = t.receipt.Races + 1
	t.receipt = receipt
	t.racing = nil
	t.takeLocked(p)
	t.improved, t.backoff = time.Now(), t.m.cfg.Retry
	t.mu.Unlock()
	close(r.done)
}

// takeLocked puts the tunnel on another path.
func (t *Tunnel) takeLocked(p *path) {
	if t.path != nil {
		t.m.rest(t.path.link, -1)
	}
	if t.closed {
		p = nil
	}
	if t.path = p; p != nil {
		t.m.rest(p.link, 1)
	}
}

// leave gives a path up that turned out not to lead to the device any more.
func (t *Tunnel) leave(p *path) {
	t.mu.Lock()
	if t.path == p {
		t.takeLocked(nil)
	}
	t.mu.Unlock()
}

// wantsBetter reports whether it is time to look for a better route.
func (t *Tunnel) wantsBetter(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == nil || !t.path.alive() || t.racing != nil || t.closed || t.path.route != Relayed || now.Sub(t.improved) < t.backoff {
		return false
	}
	t.improved = now
	t.backoff = min(2*t.backoff, mostBackoff)
	return true
}

// improve takes a better route if there is one by now. Connections that run stay where they are.
func (t *Tunnel) improve(ctx context.Context) {
	var better []Route
	t.mu.Lock()
	if t.path != nil {
		for _, r := range t.req.Routes {
			if r.rank() < t.path.route.rank() {
				better = append(better, r)
			}
		}
	}
	t.mu.Unlock()
	if len(better) == 0 {
		return
	}
	p, receipt, err := t.m.raceFor(ctx, t, better, false)
	if err != nil {
		return
	}
	t.m.counts.improved.Add(1)
	t.mu.Lock()
	receipt.Races = t.receipt.Races + 1
	t.receipt = receipt
	t.takeLocked(p)
	t.mu.Unlock()
}

// accept serves the local port until the tunnel closes.
func (t *Tunnel) accept() {
	for {
		conn, err := t.listener.AcceptTCP()
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
		t.mu.Lock()
		if t.closed || len(t.conns) >= t.m.cfg.Limits.Connections {
			t.mu.Unlock()
			abort(conn)
			continue
		}
		t.conns[conn] = struct{}{}
		t.wg.Go(func() {
			err := t.serve(conn)
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

// serve carries one local connection. One that found its link dead before the device was asked tries once more.
func (t *Tunnel) serve(conn *net.TCPConn) error {
	t.total.Add(1)
	var last error
	for range 2 {
		ctx, cancel := context.WithTimeout(t.ctx, t.m.cfg.OpenTimeout)
		p, err := t.way(ctx)
		if err != nil {
			cancel()
			abort(conn)
			return err
		}
		if p.link == nil {
			err = t.serveSelf(ctx, conn, p)
			cancel()
			return err
		}
		f, err := p.link.Open(link.Open{Device: t.deviceID(), Port: t.req.Port, Protocol: t.req.Protocol})
		if err == nil && p.link.Silence() > quiet {
			if err = answered(ctx, f); err != nil {
				f.Close()
			}
		}
		cancel()
		if err != nil {
			if last = t.judge(p, err); p.alive() {
				break
			}
			continue
		}
		sent, got, err := pump(t.ctx, conn, f)
		t.sent.Add(sent)
		t.got.Add(got)
		return t.judge(p, err)
	}
	abort(conn)
	return last
}

// judge says what the end of a connection means for the path it took.
func (t *Tunnel) judge(p *path, err error) error {
	if err == nil {
		return nil
	}
	err = flowError(err)
	for _, e := range []error{ErrDeviceNotFound, ErrDeviceUnreachable, ErrUnknownDevice, ErrNotAllowed, ErrRevoked, ErrLimit} {
		if errors.Is(err, e) {
			t.leave(p)
		}
	}
	return err
}

func (t *Tunnel) serveSelf(ctx context.Context, conn *net.TCPConn, p *path) error {
	me, err := t.m.member(t.local)
	if err != nil {
		abort(conn)
		return err
	}
	// The record may have changed since the tunnel was opened.
	dev, err := t.m.cfg.Resolver.Device(ctx, t.req.Domain, t.req.Device)
	if err == nil {
		var device *net.TCPConn
		device, err = t.m.connectSelf(ctx, want{me: me, device: dev, port: t.req.Port, proto: t.req.Protocol})
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

func (t *Tunnel) deviceID() protocol.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.device.ID
}

// Close ends the tunnel and its connections and waits for them.
func (t *Tunnel) Close() {
	t.m.mu.Lock()
	if t.m.tunnels[t.id] == t {
		delete(t.m.tunnels, t.id)
	}
	t.m.mu.Unlock()
	t.mu.Lock()
	t.closed = true
	l := t.listener
	conns := make([]*net.TCPConn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	t.cancel()
	if l != nil {
		_ = l.Close()
	}
	for _, c := range conns {
		abort(c)
	}
	t.wg.Wait()
	t.mu.Lock()
	t.takeLocked(nil)
	t.mu.Unlock()
}
