package carrier

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// ErrCrowded means that a stream found no place.
var ErrCrowded = errors.New("too many streams")

// acceptedStream is a stream that a peer has opened.
type acceptedStream struct {
	*messageStream
	zone   string
	source netip.Addr
	here   *list.Element // among the unproved ones; nil once it proved something; guarded by Mux.mu
}

// streamSource is what one address, or one IPv6 /64, has open.
type streamSource struct{ count, unproved int }

// unprovedList holds the streams that have proved nothing, oldest first.
type unprovedList = list.List

// maxUnprovedPerSource keeps one address from taking the newcomers' room.
const maxUnprovedPerSource = 64

// Serve moves a peer's datagrams until the stream ends, and closes it. It runs in a goroutine of the caller. Whoever waits
// for it goes on with ReadStreams meanwhile, or closes the Mux first.
func (m *Mux) Serve(conn net.Conn) error {
	s, why := m.enter(conn)
	if s == nil {
		m.counts[why].Add(1)
		_ = conn.Close()
		return ErrCrowded
	}
	m.counts[muxServed].Add(1)
	defer m.wg.Done()
	err := s.run()
	m.leave(s)
	return err
}

func (m *Mux) enter(conn net.Conn) (*acceptedStream, muxReason) {
	source := sourceOf(conn.RemoteAddr())
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, muxSource
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	src := m.sources[source]
	switch {
	case m.closed || len(m.accepted) >= m.cfg.Streams && !m.dropUnprovedLocked():
		return nil, muxCrowded
	case src != nil && (src.count >= m.cfg.PerSource || src.unproved >= min(maxUnprovedPerSource, max(m.cfg.Unproved/2, 1))):
		return nil, muxSource
	}
	if m.unproved.Len() >= m.cfg.Unproved {
		m.dropUnprovedLocked()
	}
	if src = m.sources[source]; src == nil { // dropping may have taken its last
		src = new(streamSource)
		m.sources[source] = src
	}
	m.number++
	zone := zoneStream + strconv.FormatUint(m.number, 10)
	s := &acceptedStream{
		messageStream: newMessageStream(conn, zoned(remote.AddrPort(), zone), false, m.times, newSendQueue(), m.in, m.stop),
		zone:          zone, source: source,
	}
	s.here = m.unproved.PushBack(s)
	src.count++
	src.unproved++
	m.accepted[zone] = s
	m.wg.Add(1)
	return s, muxServed
}

// dropUnprovedLocked makes room: an honest peer proves itself within a round trip, so the oldest that has not is the least
// likely honest.
func (m *Mux) dropUnprovedLocked() bool {
	e := m.unproved.Front()
	if e == nil {
		return false
	}
	s := e.Value.(*acceptedStream)
	m.counts[muxUnproved].Add(1)
	m.forgetLocked(s)
	if tcp := bareTCP(s.conn); tcp != nil {
		_ = tcp.SetLinger(0)
	}
	_ = breakOff(s.conn)
	return true
}

func (m *Mux) leave(s *acceptedStream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(s)
}

func (m *Mux) forgetLocked(s *acceptedStream) {
	if m.accepted[s.zone] != s {
		return
	}
	delete(m.accepted, s.zone)
	src := m.sources[s.source]
	m.provedLocked(s, src)
	if src.count--; src.count == 0 {
		delete(m.sources, s.source)
	}
}

func (m *Mux) provedLocked(s *acceptedStream, src *streamSource) {
	if s.here != nil {
		m.unproved.Remove(s.here)
		s.here = nil
		src.unproved--
	}
}

// Confirm says that a datagram from this address was authentic: the stream that it came on may stay.
func (m *Mux) Confirm(now time.Time, from netip.AddrPort) {
	if !OnStream(from) {
		return
	}
	m.mu.RLock()
	s := m.accepted[from.Addr().Zone()]
	m.mu.RUnlock()
	if s == nil || !s.confirm(now) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accepted[s.zone] == s {
		m.provedLocked(s, m.sources[s.source])
	}
}
