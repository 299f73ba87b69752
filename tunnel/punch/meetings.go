package punch

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"culvert/protocol"
)

// What a node spends on all of its meetings together.
const (
	// mostMeetings at a time.
	mostMeetings = 64
	// mostSockets opened for meetings: four hard sides at a time. Another one gets what is left.
	mostSockets = 4 * wideSockets
	// packetsPerSecond of all meetings, as much as three easy sides and some plain ones send; what is beyond is lost, as if on
	// the way. packetsAtOnce is 64 meetings that begin together.
	packetsPerSecond = 2000
	packetsAtOnce    = mostMeetings * mostTargets
	// mostWaiting packets of one meeting; a loop that lags loses the rest.
	mostWaiting = 256
)

// Why there was no meeting.
var (
	ErrBusy   = errors.New("too many meetings by UDP at a time")
	ErrTwice  = errors.New("this meeting is already going on")
	ErrClosed = errors.New("this node is shutting down")
)

// Sender is the node's one UDP socket. What it reads and is of protocol.TypePunch goes to Meetings.Deliver.
type Sender interface {
	// Send sends one datagram, which it does not keep. It does not wait.
	Send(to netip.AddrPort, b []byte) error
}

// Meeting is one end's part of a TunnelRequest that wants UDP.
type Meeting struct {
	Token      protocol.Hash
	Requester  protocol.ID
	TunnelNode protocol.ID
	Asks       bool           // this end is the requester
	Mine       protocol.Punch // as told to the other end
	// Peer is the other end's part. At a requester that does not know it yet: the UDP candidates of the peer's NodeInfo, to
	// begin with, and the answer comes from Answer. Nil: Peer is all. Closed: there will be none.
	Peer     Side
	Answer   <-chan Side
	Local    bool // the two share a location
	Loopback bool // loopback addresses may be used: tests and demonstrations
}

// Path is where the two have met.
type Path struct {
	Main    bool           // over the node's one socket
	Conn    net.PacketConn // else this one, from now on the caller's
	Remote  netip.AddrPort
	RTT     time.Duration // 0: not measured
	Took    time.Duration // also of a failure
	Packets int           // sent for it, also of a failure
}

// Counters count over all meetings.
type Counters struct {
	Found, Failed int64
	Sent          int64
	Limited       int64 // not sent: over packetsPerSecond
	Unsent        int64 // refused by the system: no route, no such family
	Unknown       int64 // punch packets of no live meeting, or malformed
	Dropped       int64 // more came than a meeting could take
	Invalid       int64 // of a live meeting's number but not of its key, or of one path too many
}

// Meetings is all meetings of one node. It is safe for concurrent use.
type Meetings struct {
	main    Sender
	limit   *rate.Limiter
	closing chan struct{}
	running sync.WaitGroup

	found, failed, sent, limited, unsent, unknown, dropped, invalid atomic.Int64

	mu      sync.Mutex
	closed  bool
	live    map[uint64]*attempt
	sockets int // that may still be opened
}

// NewMeetings sends through main. Close it before main.
func NewMeetings(main Sender) *Meetings {
	return &Meetings{
		main: main, limit: rate.NewLimiter(packetsPerSecond, packetsAtOnce), closing: make(chan struct{}),
		live: make(map[uint64]*attempt), sockets: mostSockets,
	}
}

// Meet returns the path that both ends agreed on, or why there is none: an error of this package, or the context's. The end of
// a tunnel-node goes on confirming for a moment after that; Close ends it.
func (m *Meetings) Meet(ctx context.Context, w Meeting) (Path, error) {
	end, err := protocol.NewPunchEnd(w.Token, w.Requester, w.TunnelNode, w.Asks)
	if err != nil {
		return Path{}, err
	}
	s := Setup{End: end, Requester: w.Asks, Mine: w.Mine, Peer: w.Peer, Waits: w.Answer != nil, Local: w.Local, Loopback: w.Loopback}
	rand.Read(s.Seed[:])
	a := &attempt{all: m, pair: end.Pair(), begun: time.Now(), inbox: make(chan Packet, mostWaiting), result: make(chan result, 1)}
	a.machine = New(a.begun, s)
	if err := m.start(ctx, a, w.Answer); err != nil {
		return Path{}, err
	}
	r := <-a.result
	return r.path, r.err
}

func (m *Meetings) start(ctx context.Context, a *attempt, answer <-chan Side) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.live[a.pair] != nil:
		return ErrTwice
	case len(m.live) >= mostMeetings:
		return ErrBusy
	}
	m.live[a.pair] = a
	m.running.Go(func() { a.run(ctx, answer) })
	return nil
}

// ended takes an attempt off the list.
func (m *Meetings) ended(a *attempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.live, a.pair)
	a.machine, a.sockets = nil, nil // a socket handed over outlives them
}

// Deliver hands over a datagram that the main socket has read; false where it is of no live meeting. It copies b and does not
// wait.
func (m *Meetings) Deliver(from netip.AddrPort, b []byte) bool {
	pair, err := protocol.PunchPair(b)
	if err != nil {
		m.unknown.Add(1)
		return false
	}
	m.mu.Lock()
	a := m.live[pair]
	m.mu.Unlock()
	if a == nil {
		m.unknown.Add(1)
		return false
	}
	a.deliver(0, from, b)
	return true
}

// Counters is what was counted so far.
func (m *Meetings) Counters() Counters {
	return Counters{
		Found: m.found.Load(), Failed: m.failed.Load(), Sent: m.sent.Load(), Limited: m.limited.Load(), Unsent: m.unsent.Load(),
		Unknown: m.unknown.Load(), Dropped: m.dropped.Load(), Invalid: m.invalid.Load(),
	}
}

// Close ends all meetings with ErrClosed and waits for them. It is idempotent. Connections of paths found stay open.
func (m *Meetings) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.closing)
	}
	m.mu.Unlock()
	m.running.Wait()
}

// lease takes up to n sockets from what may be open.
func (m *Meetings) lease(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n = min(n, m.sockets)
	m.sockets -= n
	return n
}

func (m *Meetings) release(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets += n
}

// deliver queues a packet for the attempt's loop.
func (a *attempt) deliver(socket int, from netip.AddrPort, b []byte) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	select {
	case a.inbox <- Packet{socket, from, bytes.Clone(b)}:
	default:
		a.all.dropped.Add(1)
	}
}
