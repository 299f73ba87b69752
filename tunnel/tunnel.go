package tunnel

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
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
	lost   atomic.Int64 // datagrams dropped here

	mu       sync.Mutex
	listener *rawtcp.Listener // of a TCP port
	packets  *net.UDPConn     // of a UDP port
	known    known
	path     *path
	racing   *racing            // until the first way is found
	looking  int                // races that go on, also for better ways
	stopLook context.CancelFunc // of the latest race
	receipt  Receipt
	lastErr  error
	used     time.Time // by a program
	closed   bool
	conns    map[*net.TCPConn]*link.Flow // nil while there is none
	sources  map[netip.AddrPort]*source
}

// racing is a race that everybody who needs a way waits for.
type racing struct {
	done chan struct{}
	path *path
	err  error
	over bool // guarded by Tunnel.mu
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
	Open       int // connections now, or sources of datagrams
	Receipt    Receipt
	Error      string // of the latest connection that failed
}

// ID names the tunnel on this node.
func (t *Tunnel) ID() string { return t.id }

// Local is the address to connect to, or to send to.
func (t *Tunnel) Local() netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.localLocked()
}

func (t *Tunnel) localLocked() netip.AddrPort {
	var a netip.AddrPort
	switch {
	case t.listener != nil:
		a = t.listener.Addr().(*net.TCPAddr).AddrPort()
	case t.packets != nil:
		a = t.packets.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Info is the tunnel as it is now, with its receipt.
func (t *Tunnel) Info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.known.device
	i := Info{
		ID: t.id, Domain: t.req.Domain, Device: d.ID, Name: d.Value.Name, Port: t.req.Port,
		Protocol: t.req.Protocol, Local: t.localLocked(), Since: t.since, Persist: t.req.Persist, Caller: t.req.Caller,
		Open: len(t.conns) + len(t.sources), Receipt: t.receipt,
	}
	if t.path != nil && t.path.alive() {
		i.Route, i.TunnelNode, i.Relay = t.path.route, t.path.node, t.path.relay
	}
	i.Receipt.Sent, i.Receipt.Received, i.Receipt.Conns, i.Receipt.Dropped = t.sent.Load(), t.got.Load(), t.total.Load(), t.lost.Load()
	if t.lastErr != nil {
		i.Error = t.lastErr.Error()
	}
	return i
}

func (t *Tunnel) remembered() known {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}

func (t *Tunnel) remember(k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.targets == nil && k.device.ID == t.known.device.ID {
		k.targets = t.known.targets
	}
	t.known = k
}

func (t *Tunnel) deviceID() protocol.ID { return t.remembered().device.ID }

// Close ends the tunnel and its connections and waits for them.
func (t *Tunnel) Close() {
	t.m.mu.Lock()
	if t.m.tunnels[t.id] == t {
		delete(t.m.tunnels, t.id)
	}
	t.m.mu.Unlock()
	t.mu.Lock()
	t.closed = true
	l, u := t.listener, t.packets
	conns := maps.Clone(t.conns)
	t.mu.Unlock()
	t.cancel()
	if l != nil {
		_ = l.Close()
	}
	if u != nil {
		_ = u.Close()
	}
	for c, f := range conns {
		if f != nil {
			f.Reset(link.ReasonClosing, "")
		}
		abort(c)
	}
	t.wg.Wait()
	t.mu.Lock()
	t.takeLocked(nil, false)
	t.mu.Unlock()
}
