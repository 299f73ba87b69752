package carrier

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// pending is a connection that nobody has been authenticated on yet. It waits in one of two
// stages: silent, until its first byte, and shaking, until the end of its TLS handshake.
type pending struct {
	conn  *net.TCPConn
	from  netip.Addr
	stage *list.List    // of the table: silent or shaking; nil once it left the table
	here  *list.Element // in stage
	own   *list.Element // in the silent list of its source; nil once it has spoken
}

// source is what one address, or one IPv6 /64, has half-open.
type source struct {
	count  int
	silent list.List
}

// halfOpen bounds the connections that cost us something and prove nothing. A full stage drops its
// oldest: an honest peer speaks within a round trip, so what is oldest is the least likely honest.
// The stages have a room of their own each, or stalled handshakes would leave newcomers none.
type halfOpen struct {
	perStage  int
	perSource int
	counts    *[reasons]atomic.Uint64

	mu      sync.Mutex
	closed  bool
	silent  list.List // oldest first
	shaking list.List // oldest first
	sources map[netip.Addr]*source
}

func newHalfOpen(total, perSource int, counts *[reasons]atomic.Uint64) *halfOpen {
	return &halfOpen{
		perStage:  max(total/2, 1),
		perSource: perSource,
		counts:    counts,
		sources:   make(map[netip.Addr]*source),
	}
}

// add takes a new connection in; nil where its source has too many and none of them is silent, or
// where the table is closed.
func (h *halfOpen) add(conn *net.TCPConn) *pending {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := sourceOf(conn.RemoteAddr())
	src := h.sources[from]
	if h.closed {
		return nil
	}
	if src != nil && src.count >= h.perSource {
		oldest := src.silent.Front()
		if oldest == nil {
			return nil
		}
		h.dropLocked(oldest.Value.(*pending), reasonSource)
		src = h.sources[from] // gone with its last connection
	}
	if h.silent.Len() >= h.perStage {
		h.dropLocked(h.silent.Front().Value.(*pending), reasonCrowded)
		src = h.sources[from]
	}
	if src == nil {
		src = new(source)
		h.sources[from] = src
	}
	p := &pending{conn: conn, from: from, stage: &h.silent}
	p.here = h.silent.PushBack(p)
	p.own = src.silent.PushBack(p)
	src.count++
	return p
}

// spoke moves p on to the handshake; false if it was dropped meanwhile.
func (h *halfOpen) spoke(p *pending) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.stage == nil {
		return false
	}
	h.silent.Remove(p.here)
	h.sources[p.from].silent.Remove(p.own)
	p.own = nil
	if h.shaking.Len() >= h.perStage {
		h.dropLocked(h.shaking.Front().Value.(*pending), reasonCrowded)
	}
	p.stage = &h.shaking
	p.here = h.shaking.PushBack(p)
	return true
}

// done takes p out; false if it was dropped meanwhile.
func (h *halfOpen) done(p *pending) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.stage == nil {
		return false
	}
	h.removeLocked(p)
	return true
}

// dropOldest frees one descriptor; false where there is nothing to give up.
func (h *halfOpen) dropOldest(why reason) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.silent.Front()
	if oldest == nil {
		oldest = h.shaking.Front()
	}
	if oldest == nil {
		return false
	}
	h.dropLocked(oldest.Value.(*pending), why)
	return true
}

// close drops everything and lets nothing in any more.
func (h *halfOpen) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, stage := range []*list.List{&h.silent, &h.shaking} {
		for stage.Len() > 0 {
			h.dropLocked(stage.Front().Value.(*pending), reasonClosed)
		}
	}
}

// dropLocked counts and closes p; the goroutine that serves it finds it gone.
func (h *halfOpen) dropLocked(p *pending, why reason) {
	h.removeLocked(p)
	h.counts[why].Add(1)
	abort(p.conn)
}

func (h *halfOpen) removeLocked(p *pending) {
	p.stage.Remove(p.here)
	p.stage = nil
	src := h.sources[p.from]
	if p.own != nil {
		src.silent.Remove(p.own)
	}
	if src.count--; src.count == 0 {
		delete(h.sources, p.from)
	}
}

// abort closes with a reset, so that a flood leaves no sockets waiting in the kernel.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// sourceOf is whom a connection counts against: an IPv6 customer has at least a /64 to play with.
func sourceOf(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	if addr.Is6() {
		if prefix, err := addr.WithZone("").Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return addr
}
