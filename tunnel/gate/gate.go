// Package gate bounds how many strangers may stand at a door at once, in all and from one source. A stranger is a
// connection that has not proved yet who it is. Who finds no place is turned away: the doors are short (seconds), and a
// queue would only be one more thing to fill.
package gate

import (
	"net"
	"net/netip"
	"sync"
)

// Gate is safe for concurrent use.
type Gate struct {
	total, perSource int

	mu      sync.Mutex
	inside  int
	sources map[netip.Addr]int
}

// New makes a gate with places for total strangers, perSource of them from one address (IPv6: one /64).
func New(total, perSource int) *Gate {
	return &Gate{total: total, perSource: perSource, sources: make(map[netip.Addr]int)}
}

// Enter takes a place for who comes from remote. leave gives it back, once however often it is called.
func (g *Gate) Enter(remote net.Addr) (leave func(), ok bool) {
	from := source(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= g.total || g.sources[from] >= g.perSource {
		return nil, false
	}
	g.inside++
	g.sources[from]++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inside--
		if g.sources[from]--; g.sources[from] == 0 {
			delete(g.sources, from)
		}
	}), true
}

// source is whom a connection counts against: an IPv6 customer has at least a /64 to play with.
func source(remote net.Addr) netip.Addr {
	t, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := t.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
