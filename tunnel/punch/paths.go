package punch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// path is one of our sockets and one of their addresses over which a valid packet has come.
type path struct {
	socket int
	remote netip.AddrPort
	serial uint64        // last heard
	heard  time.Time     // when
	proven time.Time     // when last; zero: never
	rtt    time.Duration // the least one; 0: not measured
}

// serialTick is the unit of time in a serial: 24 bits of it are 335 s, more than an attempt lasts.
const serialTick = 20 * time.Microsecond

const (
	serialTimeMask = 1<<24 - 1
	serialTagBits  = 40
	serialTagMask  = 1<<serialTagBits - 1
)

// serial is the challenge to send over a path now: time 24 bits ‖ tag 40 bits.
func (m *Machine) serial(now time.Time, socket int, remote netip.AddrPort) uint64 {
	t := uint64(now.Sub(m.start)/serialTick) & serialTimeMask
	return t<<serialTagBits | m.tag(t, socket, remote)
}

func (m *Machine) tag(t uint64, socket int, remote netip.AddrPort) uint64 {
	var b [8 + 4 + 16 + 2]byte
	binary.BigEndian.PutUint64(b[:], t)
	binary.BigEndian.PutUint32(b[8:], uint32(socket))
	ip := remote.Addr().As16()
	copy(b[12:], ip[:])
	binary.BigEndian.PutUint16(b[28:], remote.Port())
	h := hmac.New(sha256.New, m.secret[:])
	h.Write(b[:])
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(h.Sum(sum[:0])) & serialTagMask
}

// age is how long ago this side sent the serial over the path; false where it never did, or too long ago.
func (m *Machine) age(now time.Time, echo uint64, socket int, remote netip.AddrPort) (time.Duration, bool) {
	t := echo >> serialTagBits
	ago := time.Duration((uint64(now.Sub(m.start)/serialTick)-t)&serialTimeMask) * serialTick
	return ago, ago <= echoLife && m.tag(t, socket, remote) == echo&serialTagMask
}

// find is the path over socket and remote, nil if nothing was heard over it.
func (m *Machine) find(socket int, remote netip.AddrPort) *path {
	for _, p := range m.paths {
		if p.socket == socket && p.remote == remote {
			return p
		}
	}
	return nil
}

// hear is find, or a new path; nil where too many are alive.
func (m *Machine) hear(now time.Time, socket int, remote netip.AddrPort) *path {
	p := m.find(socket, remote)
	if p == nil {
		p = &path{socket: socket, remote: remote}
		if len(m.paths) < mostPaths {
			m.paths = append(m.paths, p)
		} else if i := m.stale(now); i >= 0 {
			m.paths[i] = p
		} else {
			return nil
		}
	}
	p.heard = now
	return p
}

// stale is a path that may make room: one that was never proven, and not heard for a while.
func (m *Machine) stale(now time.Time) int {
	for i, p := range m.paths {
		if p.proven.IsZero() && now.Sub(p.heard) > pathLife {
			return i
		}
	}
	return -1
}

// settled reports whether a path carries both ways, so that looking for others may pause.
func (m *Machine) settled(now time.Time) bool {
	for _, p := range m.paths {
		if !p.proven.IsZero() && now.Sub(p.proven) < settledTime {
			return true
		}
	}
	return false
}

// class orders paths before their round trips do. What the peer announced comes first: who stands by the way, reads all packets
// and hands them on between the two may be nearer, but announced he is not.
func (m *Machine) class(p *path) int {
	c := 2
	switch {
	case private(p.remote.Addr()):
		c = 0
	case p.remote.Addr().Is6():
		c = 1
	}
	if !slices.Contains(m.targets, p.remote) {
		c += 3
	}
	return c
}

// best is the proven path to choose, nil if there is none.
func (m *Machine) best(now time.Time) (b *path) {
	for _, p := range m.paths {
		if p.proven.IsZero() || now.Sub(p.proven) > settledTime {
			continue
		}
		if b == nil || m.class(p) < m.class(b) || m.class(p) == m.class(b) && p.measured() < b.measured() {
			b = p
		}
	}
	return b
}

// measured is the round trip, long where it is not known.
func (p *path) measured() time.Duration {
	if p.rtt == 0 {
		return echoLife
	}
	return p.rtt
}
