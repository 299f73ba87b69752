package tunnel

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// errMoved ends a link that starts at an address which this machine no longer has.
var errMoved = errors.New("this machine has left the network that the link went through")

// NetworkChanged is to be called when addresses or routers of this machine have changed. Links from addresses that are gone end
// at once, the others are asked whether they live; tunnels look for better ways, and those lately used for a way if they have
// none left.
func (m *Manager) NetworkChanged() {
	m.rests.forget()
	own := m.cfg.Locator.Own()
	m.mu.Lock()
	var links []*link.Link
	for l := range m.links {
		links = append(links, l)
	}
	m.mu.Unlock()
	for _, l := range links {
		if gone(l.Here().Addr(), own) {
			l.Fail(errMoved)
		} else {
			l.Ask()
		}
	}
	m.searchSoon(time.Now(), func(searchKey) bool { return true })
	for _, t := range m.tunnelsWhere(func(*Tunnel) bool { return true }) {
		if t.leftLocation() {
			t.mu.Lock()
			t.takeLocked(nil, false)
			t.mu.Unlock()
		}
		t.look(time.Now(), true)
	}
}

// gone reports whether a is no address of this machine any more, as far as that can be said.
func gone(a netip.Addr, own []netip.Prefix) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && len(own) > 0 &&
		!slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr().Unmap().WithZone("") == a })
}

// leftLocation reports whether the tunnel's device was reached by this node itself, which is no longer where it is.
func (t *Tunnel) leftLocation() bool {
	t.mu.Lock()
	self := t.path != nil && t.path.link == nil
	dev := t.known.device
	t.mu.Unlock()
	me, err := t.m.member(t.local)
	return self && err == nil && !t.m.reachesSelf(want{me: me, device: dev})
}

// Announced is to be called when the mesh has been told new addresses of this node, or something else about it by which a
// better route may exist now: the users of its links are told, and its own tunnels look for better ways.
func (m *Manager) Announced(d protocol.Domain) {
	m.mu.Lock()
	var tell []*link.Link
	for l := range m.links {
		if l.Local().Domain() == d && l.Role() == link.RoleTunnel {
			tell = append(tell, l)
		}
	}
	m.mu.Unlock()
	for _, l := range tell {
		l.Tell()
	}
	which := func(k searchKey) bool { return k.local.Domain() == d }
	if m.searchSoon(time.Now(), which) {
		m.lookNow(which)
	}
}

// news is told by a link, in its read loop, that its peer may be reached better by now.
func (m *Manager) news(l *link.Link) {
	local, peer := l.Local(), l.Peer().ID
	which := func(k searchKey) bool { return k.local == local && k.node == peer }
	if m.searchSoon(time.Now(), which) { // a peer that tells news all the time costs no more than this
		m.spawn(func() { m.lookNow(which) })
	}
}

// lookNow has the tunnels look whose searches which reports true for.
func (m *Manager) lookNow(which func(searchKey) bool) {
	for _, t := range m.tunnelsWhere(func(*Tunnel) bool { return true }) {
		t.mu.Lock()
		mine := t.path != nil && which(t.searchLocked())
		t.mu.Unlock()
		if mine {
			t.look(time.Now(), true)
		}
	}
}

// busyAfter is how long after a link died its end still counts as busy: the other side wants another.
const busyAfter = 2 * time.Minute

// Busy reports whether this node is an end of a living link or an open tunnel in the domain, or was one until its link died:
// then it must be possible to reach it and to ask others at any moment, whatever the NATs between forget.
func (m *Manager) Busy(d protocol.Domain) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.lost[d]; ok && time.Since(at) < busyAfter {
		return true
	}
	for l := range m.links {
		if l.Local().Domain() == d {
			return true
		}
	}
	for _, t := range m.tunnels {
		if t.local.Domain() == d {
			return true
		}
	}
	return false
}
