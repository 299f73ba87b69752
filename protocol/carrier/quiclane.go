package carrier

import (
	"crypto/rand"
	"hash/maphash"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ConnectionIDSize is the length of the QUIC connection IDs that a Lane mints: idRandom bytes, then their keyed check.
	ConnectionIDSize = idRandom + idCheck
	idRandom         = 6
	idCheck          = 4

	laneQueue    = 1024 // datagrams that wait for QUIC: a hundredth of a second at a gigabit
	laneSpare    = 32   // buffers that an idle lane keeps
	laneAdmitted = 4096 // addresses that may start a connection at one time
	laneNames    = 1024 // addresses of which net's form is remembered

	longHeader  = 0x80 // RFC 9000, section 17.2
	longIDs     = 6    // where a long header's destination connection ID begins: its length stands before it
	shortHeader = 1    // where a short header's begins
)

// Lane is the QUIC side of a UDP socket on which more is spoken: a net.PacketConn for a QUIC transport, filled by whoever reads
// the socket. It lets in what carries a connection ID minted here, whoever sends it (a NAT may have given the peer another
// port), and beyond that only long headers, with which a connection starts, from addresses that were admitted. So a stranger
// costs a comparison.
type Lane struct {
	conn  Conn
	local net.Addr
	seed  maphash.Seed
	drops laneDrops

	admission sync.RWMutex
	admitted  map[netip.AddrPort]time.Time // until when

	sending sync.Mutex
	out     [1]Message // on the stack it would escape into the interface's call

	mu       sync.Mutex
	ready    sync.Cond
	queue    []Message // a ring
	first, n int
	spare    [][]byte
	names    map[netip.AddrPort]*net.UDPAddr
	expired  bool // the read deadline
	deadline *time.Timer
	closed   bool
}

var _ net.PacketConn = (*Lane)(nil)

// laneDrops counts what was not handed to QUIC.
type laneDrops struct {
	stranger atomic.Uint64 // starts a connection from an address that was not admitted
	unknown  atomic.Uint64 // belongs to no connection
	overflow atomic.Uint64 // QUIC did not keep up
}

// NewLane makes a lane that sends through c. c stays owned by the caller.
func NewLane(c Conn) *Lane {
	l := &Lane{
		conn: c, local: net.UDPAddrFromAddrPort(c.LocalAddr()), seed: maphash.MakeSeed(),
		admitted: make(map[netip.AddrPort]time.Time), names: make(map[netip.AddrPort]*net.UDPAddr),
	}
	l.ready.L = &l.mu
	return l
}

// Admit lets connections start from addr until then. It reports false where too many others may.
func (l *Lane) Admit(now time.Time, addr netip.AddrPort, until time.Time) bool {
	addr = unmapped(addr)
	l.admission.Lock()
	defer l.admission.Unlock()
	if len(l.admitted) >= laneAdmitted {
		for a, t := range l.admitted {
			if !now.Before(t) {
				delete(l.admitted, a)
			}
		}
	}
	old, known := l.admitted[addr]
	if !known && len(l.admitted) >= laneAdmitted {
		return false
	}
	if until.After(old) {
		l.admitted[addr] = until
	}
	return true
}

// Dismiss takes back what Admit allowed; connections that are there go on.
func (l *Lane) Dismiss(addr netip.AddrPort) {
	l.admission.Lock()
	defer l.admission.Unlock()
	delete(l.admitted, unmapped(addr))
}

// ConnectionID mints an ID by which the lane knows the datagrams of a connection again.
func (l *Lane) ConnectionID() (id [ConnectionIDSize]byte, err error) {
	if _, err = rand.Read(id[:idRandom]); err == nil {
		l.check(id[:idRandom], id[idRandom:])
	}
	return id, err
}

// check writes the keyed check of an ID's random part. It keeps strangers out of the queue and no secret: QUIC does that.
func (l *Lane) check(random, sum []byte) {
	h := maphash.Bytes(l.seed, random)
	for i := range sum {
		sum[i] = byte(h >> (8 * i))
	}
}

func (l *Lane) minted(id []byte) bool {
	var sum [idCheck]byte
	l.check(id[:idRandom], sum[:])
	return sum == [idCheck]byte(id[idRandom:])
}

// lets reports whether a datagram goes to QUIC.
func (l *Lane) lets(now time.Time, from netip.AddrPort, b []byte) bool {
	if b[0]&longHeader == 0 {
		if len(b) >= shortHeader+ConnectionIDSize && l.minted(b[shortHeader:shortHeader+ConnectionIDSize]) {
			return true
		}
		l.drops.unknown.Add(1)
		return false
	}
	if len(b) >= longIDs+ConnectionIDSize && b[longIDs-1] == ConnectionIDSize && l.minted(b[longIDs:longIDs+ConnectionIDSize]) {
		return true
	}
	l.admission.RLock()
	until, ok := l.admitted[from]
	l.admission.RUnlock()
	if ok && now.Before(until) {
		return true
	}
	l.drops.stranger.Add(1)
	return false
}

// Deliver takes a datagram that Classify calls QUIC. Its buffer goes with it: m has another one of the same size afterwards.
func (l *Lane) Deliver(now time.Time, m *Message) {
	if m.N == 0 || !l.lets(now, m.Addr, m.Buf[:m.N]) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.n == laneQueue {
		l.drops.overflow.Add(1)
		return
	}
	if l.n == len(l.queue) {
		l.growLocked()
	}
	l.queue[(l.first+l.n)%len(l.queue)] = *m
	l.n++
	size := len(m.Buf)
	if k := len(l.spare) - 1; k >= 0 && len(l.spare[k]) == size {
		m.Buf, l.spare = l.spare[k], l.spare[:k]
	} else {
		m.Buf = make([]byte, size)
	}
	l.ready.Signal()
}

// growLocked doubles the ring, which starts small: most nodes have few connections.
func (l *Lane) growLocked() {
	q := make([]Message, min(max(2*len(l.queue), 64), laneQueue))
	for i := range l.n {
		q[i] = l.queue[(l.first+i)%len(l.queue)]
	}
	l.queue, l.first = q, 0
}

// ReadFrom implements net.PacketConn.
func (l *Lane) ReadFrom(b []byte) (int, net.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.n == 0 || l.closed || l.expired {
		if l.closed {
			return 0, nil, net.ErrClosed
		}
		if l.expired {
			return 0, nil, os.ErrDeadlineExceeded
		}
		l.ready.Wait()
	}
	m := l.queue[l.first]
	l.queue[l.first] = Message{}
	l.first, l.n = (l.first+1)%len(l.queue), l.n-1
	n := copy(b, m.Buf[:m.N])
	if len(l.spare) < laneSpare || l.n > len(l.spare) {
		l.spare = append(l.spare, m.Buf)
	}
	return n, l.nameLocked(m.Addr), nil
}

// nameLocked is net's form of an address; QUIC keeps it and does not change it.
func (l *Lane) nameLocked(a netip.AddrPort) *net.UDPAddr {
	u := l.names[a]
	if u == nil {
		if len(l.names) >= laneNames {
			clear(l.names)
		}
		u = net.UDPAddrFromAddrPort(a)
		l.names[a] = u
	}
	return u
}

// WriteTo implements net.PacketConn. What the network refuses is lost like any other datagram.
func (l *Lane) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	l.sending.Lock()
	defer l.sending.Unlock()
	l.out[0] = Message{Addr: unmapped(u.AddrPort()), Buf: b, N: len(b)}
	_, err := l.conn.WriteBatch(l.out[:])
	l.out[0] = Message{}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// LocalAddr implements net.PacketConn.
func (l *Lane) LocalAddr() net.Addr { return l.local }

// SetReadDeadline implements net.PacketConn.
func (l *Lane) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadline != nil {
		l.deadline.Stop()
		l.deadline = nil
	}
	d := time.Until(t)
	if l.expired = !t.IsZero() && d <= 0; !t.IsZero() && d > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(d, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.deadline == timer {
				l.expired = true
				l.ready.Broadcast()
			}
		})
		l.deadline = timer
	}
	l.ready.Broadcast()
	return nil
}

// SetWriteDeadline implements net.PacketConn: a write does not wait.
func (l *Lane) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.PacketConn.
func (l *Lane) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetReadBuffer has nothing to do, since the socket's buffers were chosen with it. Without it QUIC would complain to the log.
func (l *Lane) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is like SetReadBuffer.
func (l *Lane) SetWriteBuffer(int) error { return nil }

// Close ends reading. The socket stays open: it is the caller's.
func (l *Lane) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadline != nil {
		l.deadline.Stop()
	}
	l.closed = true
	l.queue, l.first, l.n, l.spare = nil, 0, 0, nil
	l.ready.Broadcast()
	return nil
}

// Stats counts datagrams that QUIC was not given, by reason.
func (l *Lane) Stats() map[string]uint64 {
	return map[string]uint64{
		"stranger":           l.drops.stranger.Load(),
		"unknown connection": l.drops.unknown.Load(),
		"overflow":           l.drops.overflow.Load(),
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
