package carrier

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"culvert/protocol"
)

// Zones that Mux gives a meaning. No interface is called so: names hold no slash.
const (
	zoneStream = "stream/" // and a number: an accepted stream
	zoneUDP    = "udp/"    // by the socket, also while UDP counts as blocked
)

// ByUDP is a, reached by the UDP socket also while UDP counts as blocked.
func ByUDP(a netip.AddrPort) netip.AddrPort { return zoned(a, zoneUDP) }

// OnStream reports whether a datagram from a came on an accepted stream.
func OnStream(a netip.AddrPort) bool { return strings.HasPrefix(a.Addr().Zone(), zoneStream) }

// zoned gives an address of either family a zone, which only IPv6 addresses may have.
func zoned(a netip.AddrPort, zone string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()).WithZone(zone), a.Port())
}

func unzoned(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// MuxConfig says how a Mux finds streams. Zero numbers take the defaults.
type MuxConfig struct {
	// Offers reports whether, while UDP is blocked, datagrams to this UDP address travel on a stream.
	Offers func(to netip.AddrPort) bool
	// Dial opens the stream that stands for a UDP address.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	Streams   int // accepted, in all, 4,096
	PerSource int // of one address or IPv6 /64, 1,024: a site's proxy is one address
	Unproved  int // of all, those that have brought nothing authentic, 512; half of them of one source, at most 64
	Detours   int // dialled, 256
}

// Mux is a Conn over a UDP socket and over streams that stand in for it. Datagrams of the socket
// come by ReadBatch, those of streams by ReadStreams, so that neither waits for the other.
type Mux struct {
	udp   Conn
	cfg   MuxConfig
	times streamTimes
	in    chan inbound
	stop  chan struct{} // closed by Close
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
	once  sync.Once
	err   error // of the socket's Close

	blocked atomic.Bool
	counts  [muxReasons]atomic.Uint64

	mu       sync.RWMutex
	closed   bool
	number   uint64
	accepted map[string]*acceptedStream // by zone
	sources  map[netip.Addr]*streamSource
	unproved unprovedList
	detours  map[netip.AddrPort]*detour
}

var _ Conn = (*Mux)(nil)

// NewMux lays a Mux over a socket, which it owns from then on.
func NewMux(udp Conn, cfg MuxConfig) *Mux {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&cfg.Streams, 4096)
	set(&cfg.PerSource, 1024)
	set(&cfg.Unproved, 512)
	set(&cfg.Detours, 256)
	if cfg.Offers == nil || cfg.Dial == nil {
		cfg.Offers = func(netip.AddrPort) bool { return false }
	}
	m := &Mux{
		udp: udp, cfg: cfg, times: defaultTimes(), in: make(chan inbound, 256), stop: make(chan struct{}),
		accepted: make(map[string]*acceptedStream), sources: make(map[netip.Addr]*streamSource), detours: make(map[netip.AddrPort]*detour),
	}
	m.ctx, m.end = context.WithCancel(context.Background())
	return m
}

// ReadBatch implements Conn, for the socket.
func (m *Mux) ReadBatch(ms []Message) (int, error) { return m.udp.ReadBatch(ms) }

// ReadStreams is ReadBatch for datagrams that came on streams. It gives each message a buffer of its own.
func (m *Mux) ReadStreams(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	var d inbound
	select {
	case d = <-m.in:
	case <-m.stop:
		return 0, net.ErrClosed
	}
	for n := 0; ; n++ {
		ms[n] = Message{Addr: d.stream.addr, Buf: d.data, N: len(d.data)}
		<-d.stream.slots
		if n+1 == len(ms) {
			return n + 1, nil
		}
		select {
		case d = <-m.in:
		default:
			return n + 1, nil
		}
	}
}

// WriteBatch implements Conn. What is for the socket goes on in runs as long as there are.
func (m *Mux) WriteBatch(ms []Message) (int, error) {
	blocked := m.blocked.Load()
	taken, from := 0, 0
	for i := range ms {
		zone := ms[i].Addr.Addr().Zone()
		if zone == "" && !blocked {
			continue
		}
		if zone == zoneUDP {
			ms[i].Addr = unzoned(ms[i].Addr)
			continue
		}
		to := m.route(ms[i].Addr, zone)
		if to == viaSocket {
			continue
		}
		n, err := m.socket(ms[from:i])
		taken, from = taken+n, i+1
		if err != nil {
			return taken, err
		}
		if to == viaStream && m.hand(&ms[i], zone) {
			taken++
		}
	}
	n, err := m.socket(ms[from:])
	return taken + n, err
}

func (m *Mux) socket(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	return m.udp.WriteBatch(ms)
}

type muxRoute uint8

const (
	viaSocket muxRoute = iota
	viaStream
	viaNothing
)

// route tells how a datagram travels that the socket may not be for.
func (m *Mux) route(to netip.AddrPort, zone string) muxRoute {
	switch {
	case strings.HasPrefix(zone, zoneStream):
		return viaStream
	case protocol.StreamsOnly(to):
		m.counts[muxNoUDP].Add(1)
		return viaNothing
	case m.blocked.Load() && (m.hasDetour(to) || m.cfg.Offers(to)):
		return viaStream
	}
	return viaSocket
}

// hand gives a datagram to its stream.
func (m *Mux) hand(msg *Message, zone string) bool {
	data := msg.Buf[:msg.N]
	if msg.N > protocol.MaxDatagram {
		m.counts[muxOversize].Add(1)
		return false
	}
	if !strings.HasPrefix(zone, zoneStream) {
		return m.handDetour(msg.Addr, data)
	}
	m.mu.RLock()
	s := m.accepted[zone]
	m.mu.RUnlock()
	if s == nil || s.addr != msg.Addr {
		m.counts[muxGone].Add(1)
		return false
	}
	if s.out.push(data) {
		m.counts[muxOverflow].Add(1)
	}
	return true
}

// LocalAddr implements Conn.
func (m *Mux) LocalAddr() netip.AddrPort { return m.udp.LocalAddr() }

// Close ends every stream, closes the socket and waits.
func (m *Mux) Close() error {
	m.once.Do(func() {
		m.mu.Lock()
		m.closed = true
		held := make([]net.Conn, 0, len(m.accepted))
		for _, s := range m.accepted {
			held = append(held, s.conn)
		}
		m.mu.Unlock()
		close(m.stop)
		m.end()
		for _, c := range held {
			_ = c.Close()
		}
		m.err = m.udp.Close()
	})
	m.wg.Wait()
	return m.err
}

// muxReason is why a datagram or a stream was not taken.
type muxReason uint8

const (
	muxServed muxReason = iota
	muxCrowded
	muxSource
	muxUnproved
	muxDialled
	muxDialFailed
	muxDetours
	muxOverflow
	muxOversize
	muxGone
	muxNoUDP
	muxReasons
)

var muxReasonNames = [muxReasons]string{
	muxServed: "accepted", muxCrowded: "too many streams", muxSource: "too many streams from source",
	muxUnproved: "dropped for a newer stream", muxDialled: "dialled", muxDialFailed: "dial failed",
	muxDetours: "too many peers by stream", muxOverflow: "stream too slow", muxOversize: "oversize",
	muxGone: "stream has ended", muxNoUDP: "no UDP at that address",
}

// Stats counts streams and datagrams by what became of them.
func (m *Mux) Stats() map[string]uint64 {
	s := make(map[string]uint64, muxReasons+2)
	for i := range m.counts {
		s[muxReasonNames[i]] = m.counts[i].Load()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	s["accepted now"], s["dialled now"] = uint64(len(m.accepted)), uint64(len(m.detours))
	return s
}
