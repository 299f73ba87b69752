package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

var (
	// ErrClosed is what a link says after it was closed on this side.
	ErrClosed = errors.New("link: closed")
	// ErrDead marks a link whose other side has fallen silent.
	ErrDead = errors.New("link: the other side has fallen silent")
	// ErrTooMany marks a flow that this link has no room for.
	ErrTooMany = errors.New("link: too many flows")
)

// Conn is an authenticated stream between two nodes, on which a link is built.
type Conn struct {
	net.Conn
	Key    key.Public // proved by the peer
	Export func(label string, context []byte, length int) ([]byte, error)
}

// FromTLS takes a TLS connection of which the handshake is done.
func FromTLS(c *tls.Conn) (Conn, error) { return FromState(c, c.ConnectionState()) }

// FromState takes a connection whose finished handshake is s: FromTLS where TLS runs elsewhere, as within QUIC. Its Close must
// not wait for a stuck writer.
func FromState(c net.Conn, s tls.ConnectionState) (Conn, error) {
	if s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != ALPN || s.DidResume {
		return Conn{}, ErrServerName
	}
	k, err := PeerKey(s)
	if err != nil {
		return Conn{}, err
	}
	return Conn{Conn: c, Key: k, Export: s.ExportKeyingMaterial}, nil
}

// Abandon closes a connection on which no link was made.
func (c Conn) Abandon() error { return closeRaw(c.Conn) }

// Limits bound what one link may cost. Zero fields take the defaults.
type Limits struct {
	Flows    int // 16,384
	Opening  int // flows whose device has not answered yet, 512
	Buffered int // unread bytes of all flows, 16 MiB
	Bulk     int // flows with a connection of their own, 64
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		v *int
		d int
	}{{&l.Flows, 16384}, {&l.Opening, 512}, {&l.Buffered, 16 << 20}, {&l.Bulk, 64}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return l
}

// Config is one side's part of a link.
type Config struct {
	Local   protocol.ID
	Node    []byte        // this side's Node record
	Request protocol.Hash // on which the link rests; the accepting side learns it from Admit
	Role    Role          // zero on the accepting side: the other one than the peer's
	Dialler bool          // of the connection: says HELLO first, dials flows' own connections
	// Admit decides on the peer's HELLO: certified, not revoked, the right role, the request known and unspent. A later HELLO
	// of a living link comes with renewal set: then only the certificate is new.
	Admit func(h Hello, renewal bool) (*protocol.CertifiedNode, error)
	// Serve answers one flow that the peer opened, in a goroutine of the link; nil on the user's side.
	Serve func(ctx context.Context, f *Flow)
	// Go runs what Serve does; nil: each in a new goroutine.
	Go func(func())
	// DialBulk makes a second connection to the peer for a flow; meet asks the peer to join it at the relay.
	DialBulk func(ctx context.Context, meet func(token protocol.Hash) error) (net.Conn, error)
	// Meet joins the peer at the relay and returns the connection; nil where the link is not relayed.
	Meet func(ctx context.Context, token protocol.Hash) (net.Conn, error)
	// News is told that the peer may be reached better by now; in the read loop, so it must not wait. Nil: nobody is told.
	News func(*Link)

	PromoteAfter int64 // bytes after which a flow gets its own connection, 1 MiB; negative: never
	Timing       Timing
	Limits       Limits
	Handshake    time.Duration // for the HELLOs, 10 s
}

// Link is a living link.
type Link struct {
	cfg    Config
	conn   Conn
	out    *outbox
	number [8]byte
	secret [32]byte
	start  time.Time
	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	wg     sync.WaitGroup
	done   chan struct{}

	heard    atomic.Int64 // nanoseconds since start
	said     atomic.Int64
	due      atomic.Int64  // when the watch looks next
	asked    atomic.Int64  // when the last PING went out, 0 for never
	active   atomic.Int64  // when a flow was opened or moved something, 0 for never
	nudged   atomic.Bool   // ask at once
	dropped  atomic.Uint64 // datagrams for which there was no room
	look     chan struct{} // the watch should look again
	buffered atomic.Int64  // unread bytes
	granted  atomic.Int64  // windows beyond the first
	used     atomic.Int64  // when the last flow ended, nanoseconds since start
	bulks    atomic.Int32
	meets    atomic.Int32

	opening sync.Mutex // keeps counters in the order of their OPENs

	mu      sync.Mutex
	peer    *protocol.CertifiedNode
	flows   map[uint64]*Flow
	pending int    // flows whose device has not answered
	counter uint64 // last counter opened
	err     error
}

// New exchanges HELLOs on conn and starts the link. On error conn is closed.
func New(ctx context.Context, conn Conn, cfg Config) (*Link, error) {
	cfg.Timing, cfg.Limits = cfg.Timing.withDefaults(), cfg.Limits.withDefaults()
	if cfg.PromoteAfter == 0 {
		cfg.PromoteAfter = 1 << 20
	}
	if cfg.Go == nil {
		cfg.Go = func(fn func()) { go fn() }
	}
	if cfg.Handshake == 0 {
		cfg.Handshake = 10 * time.Second
	}
	l := &Link{
		cfg: cfg, conn: conn, out: newOutbox(conn), start: time.Now(), done: make(chan struct{}),
		look: make(chan struct{}, 1), flows: make(map[uint64]*Flow),
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_ = conn.SetDeadline(time.Now().Add(cfg.Handshake))
	err := l.greet()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = closeRaw(conn.Conn)
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(func() { l.end(l.read()) })
	l.wg.Go(func() { l.end(l.out.run()) })
	l.wg.Go(func() { l.end(l.watch()) })
	return l, nil
}

// Peer is the other node, by its latest certificate.
func (l *Link) Peer() *protocol.CertifiedNode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer
}

// Local is the membership on this side.
func (l *Link) Local() protocol.ID { return l.cfg.Local }

// Role is this side's.
func (l *Link) Role() Role { return l.cfg.Role }

// Number names the link in its flows' IDs.
func (l *Link) Number() [8]byte { return l.number }

// Remote is the address at the other end of the connection: the peer's, or the relay's.
func (l *Link) Remote() netip.AddrPort {
	return addrPort(l.conn.RemoteAddr())
}

func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		return protocol.AddrOf(a.AddrPort()).AddrPort
	}
	return netip.AddrPort{}
}

// Flows is how many flows live.
func (l *Link) Flows() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flows)
}

// Unused is for how long no flow has lived.
func (l *Link) Unused() time.Duration {
	if l.Flows() > 0 {
		return 0
	}
	return time.Since(l.start) - time.Duration(l.used.Load())
}

// Silence is for how long the peer has not been heard.
func (l *Link) Silence() time.Duration { return time.Since(l.start) - time.Duration(l.heard.Load()) }

// Suspect reports whether the peer has left a PING unanswered for a while. The link is not given up yet, since a moment's loss
// would then cost all its connections, but new ones do better elsewhere.
func (l *Link) Suspect() bool {
	asked := l.asked.Load()
	return asked > 0 && l.heard.Load() < asked && time.Since(l.start)-time.Duration(asked) >= l.cfg.Timing.Suspect
}

// Ask has the peer asked for a sign of life at once: something about the way to it may have changed.
func (l *Link) Ask() {
	l.nudged.Store(true)
	l.wakeWatch()
}

// Tell tells the peer that this side may be reached better by now.
func (l *Link) Tell() { l.endOn(l.control(Header{Type: FrameNews}, nil)) }

// Fail ends the link without a word to the peer, of whom nothing will be heard any more.
func (l *Link) Fail(err error) { l.end(err) }

// Here is the address at this end of the connection; invalid where the transport does not tell.
func (l *Link) Here() netip.AddrPort {
	return addrPort(l.conn.LocalAddr())
}

// Dropped counts the datagrams for which there was no room on this side.
func (l *Link) Dropped() uint64 { return l.dropped.Load() }

// ResetIdle resets the flows in which no byte has moved for limit, and returns how many they were.
func (l *Link) ResetIdle(limit time.Duration) int {
	var idle []*Flow
	l.mu.Lock()
	for _, f := range l.flows {
		if f.Idle() >= limit {
			idle = append(idle, f)
		}
	}
	l.mu.Unlock()
	for _, f := range idle {
		f.Reset(ReasonIdle, "")
	}
	return len(idle)
}

// Renew shows the peer this side's renewed certificate.
func (l *Link) Renew(record []byte) {
	h := Hello{Role: l.cfg.Role, Request: l.cfg.Request, Node: record}
	l.endOn(l.control(Header{Type: FrameHello}, h.Append(nil)))
}

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err is why the link ended, nil while it lives.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close tells the peer why and ends the link and its flows. It does not wait: see Wait.
func (l *Link) Close(reason Reason) {
	if l.Err() == nil {
		_ = l.control(Header{Type: FrameGoAway}, AppendReason(nil, reason, ""))
		l.out.drain(500 * time.Millisecond)
	}
	l.end(ErrClosed)
}

// Wait returns when no goroutine of the link runs any more.
func (l *Link) Wait() error {
	<-l.done
	l.wg.Wait()
	return l.Err()
}

// end takes the link down once.
func (l *Link) end(err error) {
	if err == nil {
		err = ErrClosed
	}
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	flows := make([]*Flow, 0, len(l.flows))
	for _, f := range l.flows {
		flows = append(flows, f)
	}
	clear(l.flows)
	l.mu.Unlock()
	close(l.done)
	l.cancel()
	l.out.close(err)
	_ = closeRaw(l.conn.Conn)
	for _, f := range flows {
		f.fail(fmt.Errorf("the link ended: %w", err))
	}
}

// closeRaw closes the transport at once: a TLS close could wait for a stuck writer.
func closeRaw(c net.Conn) error {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return c.Close()
}
