package tunnel

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/descriptors"
	"culvert/tunnel/crew"
	"culvert/tunnel/gate"
	"culvert/tunnel/link"
)

// Limits of a manager. Zero fields take the defaults.
type Limits struct {
	Tunnels       int // that this node's users may hold, 16,384
	Connections   int // at once through one of them, 4,096
	Sources       int // local addresses that send datagrams through one of them, and flows of datagrams served to a peer, 1,024
	Links         int // of one peer to this node, 8
	PeerFlows     int // that this node serves one peer, 16,384
	DomainFlows   int // that this node serves one domain, 32,768
	Requests      int // that wait for their link, 4,096
	PeerRequests  int // of one peer, 64: a race sends one for each route, and races may follow each other
	Introductions int // dials to relays and back to requesters at once, 128; half of them for one domain
	Strangers     int // connections that have not said HELLO yet, 1,024
	PerSource     int // of those from one address, 128
}

// Config of a manager. Everything a zero value is not said of must be given.
type Config struct {
	Resolver Resolver
	Locator  Locator
	Signaler Signaler

	Now     func() time.Time       // the mesh's time; time.Now
	Rand    io.Reader              // crypto/rand
	Revoked func(protocol.ID) bool // node revoked or its domain banned; nil: none
	Routes  []Route                // that this node takes; all
	// Candidates are where this node's TCP port may be dialled, best first; nil: nowhere.
	Candidates func() []protocol.Candidate
	// Puncher meets other nodes by UDP; nil: this node takes no punched route.
	Puncher Puncher
	// Public tells addresses for the direct route from those of a location; Public.
	Public func(netip.Addr) bool
	// DialNode connects to nodes and relays; a net.Dialer.
	DialNode func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// DialRelay connects to a relay, by whatever way leads there; DialNode at its address.
	DialRelay func(ctx context.Context, at protocol.Peer) (net.Conn, error)
	// DialDevice connects to devices, after the guard; a net.Dialer.
	DialDevice func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Descriptors says whether there is room for a connection; nil: always.
	Descriptors *descriptors.Budget
	// DialDeviceUDP does so for datagrams; a net.Dialer.
	DialDeviceUDP func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Lost is told that a link has died which nobody ended: this node's own NAT may have lost its table. It must not wait. Nil:
	// nobody is told.
	Lost func(protocol.Domain)
	// Stirred is told that there is a link or a tunnel that was not there before, by which Busy may have become true. It must not
	// wait. Nil: nobody is told.
	Stirred func(protocol.Domain)

	Limits       Limits
	LinkLimits   link.Limits
	Timing       link.Timing
	PromoteAfter int64         // bytes, see link.Config
	IdleFlow     time.Duration // a connection without a byte, 2 h; negative: never
	IdleDatagram time.Duration // a flow of datagrams without one, 2 min
	IdleLink     time.Duration // a link without flows and tunnels, 60 s
	OpenTimeout  time.Duration // of a race, 15 s
	Retry        time.Duration // until a better route is looked for again while a worse one is in use, 5 s; it grows to 10 min

	// strangerFor is how long a connection may take to prove itself, 5 s: what it says comes with the end of its handshake.
	strangerFor time.Duration
}

// Manager opens tunnels for this machine's programs and serves those of others, in all its memberships.
type Manager struct {
	cfg    Config
	dialer *dialer
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	crew   crew.Crew // of connections and flows
	counts counters
	door   *gate.Gate
	rests  punchRests

	mu         sync.Mutex
	closed     bool
	identities map[protocol.ID]*member
	links      map[*link.Link]*entry
	dialling   map[linkKey]*dialling
	searches   map[searchKey]*search
	lost       map[protocol.Domain]time.Time // when a link died that nobody ended
	tunnels    map[string]*Tunnel
	expected   map[protocol.Hash]*expectation
	served     map[servedKey]*Served
	flowsOf    map[*link.Flow]*Served // that are served now
	flows      map[protocol.ID]int    // served now, by peer
	udpFlows   map[protocol.ID]int    // those of datagrams
	domains    map[protocol.Domain]int
	asked      map[protocol.ID]int // requests under way, by peer
	intro      map[protocol.Domain]int
	introduced int                     // in all domains
	meetings   map[meetingKey]struct{} // by UDP, under way at the tunnel side
	changed    chan struct{}           // closed and replaced when an expectation is added
	stir       chan struct{}           // holds one token when there is something to sweep
}

// member is an identity with what is made from it once.
type member struct {
	Identity
	cert tls.Certificate
}

// New starts a manager without identities.
func New(cfg Config) (*Manager, error) {
	if cfg.Resolver == nil || cfg.Locator == nil || cfg.Signaler == nil {
		return nil, errors.New("tunnel: resolver, locator and signaler must be given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(protocol.ID) bool { return false }
	}
	if cfg.Public == nil {
		cfg.Public = Public
	}
	if len(cfg.Routes) == 0 {
		cfg.Routes = Routes()
	}
	if cfg.DialNode == nil {
		cfg.DialNode = dialTCP
	}
	if cfg.DialRelay == nil {
		cfg.DialRelay = func(ctx context.Context, at protocol.Peer) (net.Conn, error) { return cfg.DialNode(ctx, at.Addr) }
	}
	cfg.DialNode, cfg.DialRelay = withRoom(cfg.Descriptors, cfg.DialNode), withRoom(cfg.Descriptors, cfg.DialRelay)
	l := &cfg.Limits
	for _, f := range []struct {
		v *int
		d int
	}{{&l.Tunnels, 16384}, {&l.Connections, 4096}, {&l.Sources, 1024}, {&l.Links, 8}, {&l.PeerFlows, 16384}, {&l.DomainFlows, 32768},
		{&l.Requests, 4096}, {&l.PeerRequests, 64}, {&l.Introductions, 128}, {&l.Strangers, 1024}, {&l.PerSource, 128}} {
		*f.v = cmp.Or(*f.v, f.d)
	}
	cfg.IdleFlow = cmp.Or(cfg.IdleFlow, 2*time.Hour)
	cfg.IdleDatagram = cmp.Or(cfg.IdleDatagram, 2*time.Minute)
	cfg.IdleLink = cmp.Or(cfg.IdleLink, time.Minute)
	cfg.OpenTimeout = cmp.Or(cfg.OpenTimeout, 15*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	cfg.strangerFor = cmp.Or(cfg.strangerFor, 5*time.Second)
	m := &Manager{
		cfg: cfg, dialer: newDialer(cfg.Locator, cfg.Now),
		door:       gate.New(l.Strangers, l.PerSource),
		identities: make(map[protocol.ID]*member), links: make(map[*link.Link]*entry),
		dialling: make(map[linkKey]*dialling), searches: make(map[searchKey]*search), lost: make(map[protocol.Domain]time.Time), udpFlows: make(map[protocol.ID]int), tunnels: make(map[string]*Tunnel),
		expected: make(map[protocol.Hash]*expectation), served: make(map[servedKey]*Served), flowsOf: make(map[*link.Flow]*Served),
		flows: make(map[protocol.ID]int), domains: make(map[protocol.Domain]int),
		asked: make(map[protocol.ID]int), intro: make(map[protocol.Domain]int), changed: make(chan struct{}), stir: make(chan struct{}, 1),
	}
	if cfg.DialDevice != nil {
		m.dialer.dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, deviceTimeout)
			defer cancel()
			return cfg.DialDevice(ctx, addr)
		}
	}
	if cfg.DialDeviceUDP != nil {
		m.dialer.dialUDP = cfg.DialDeviceUDP
	}
	m.dialer.dial, m.dialer.dialUDP = withRoom(cfg.Descriptors, m.dialer.dial), withRoom(cfg.Descriptors, m.dialer.dialUDP)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.meetings = make(map[meetingKey]struct{})
	m.wg.Go(m.sweepLoop)
	return m, nil
}

// AddIdentity takes a membership in, or its renewed certificate, which peers of live links are shown.
func (m *Manager) AddIdentity(id Identity) error {
	if id.Key == nil || id.Node == nil || id.Trust == nil {
		return errors.New("tunnel: identity wants key, certificate and trust")
	}
	if id.Key.Public() != id.Node.Signing {
		return fmt.Errorf("tunnel: certificate of %s is not for this key", id.Node.ID)
	}
	cert, err := link.Certificate(id.Key)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.identities[id.Node.ID] = &member{Identity: id, cert: cert}
	var renew []*link.Link
	for l := range m.links {
		if l.Local() == id.Node.ID {
			renew = append(renew, l)
		}
	}
	m.mu.Unlock()
	for _, l := range renew {
		l.Renew(id.Node.Record)
	}
	return nil
}

// RemoveIdentity ends a membership's tunnels and links.
func (m *Manager) RemoveIdentity(id protocol.ID) {
	m.mu.Lock()
	delete(m.identities, id)
	m.mu.Unlock()
	for _, t := range m.tunnelsWhere(func(t *Tunnel) bool { return t.local == id }) {
		t.Close()
	}
	m.closeLinks(link.ReasonClosing, func(e *entry) bool { return e.link.Local() == id })
}

func (m *Manager) member(id protocol.ID) (*member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if me, ok := m.identities[id]; ok {
		return me, nil
	}
	return nil, ErrNoMembership
}

// inDomain is the membership of a domain; with a zero domain the only one there is.
func (m *Manager) inDomain(d protocol.Domain) (*member, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *member
	for id, me := range m.identities {
		if id.Domain() == d || d == 0 && len(m.identities) == 1 {
			found = me
		}
	}
	if found == nil {
		return nil, ErrNoMembership
	}
	return found, nil
}

// CloseWhere ends what is shared with the peers for which gone reports true: revoked nodes, banned domains. It returns how
// many links that were.
func (m *Manager) CloseWhere(gone func(peer protocol.ID) bool) int {
	m.mu.Lock()
	for h, x := range m.expected {
		if gone(x.peer) {
			delete(m.expected, h)
		}
	}
	var mine []protocol.ID
	for id := range m.identities {
		if gone(id) {
			mine = append(mine, id)
		}
	}
	m.mu.Unlock()
	for _, t := range m.tunnelsWhere(func(t *Tunnel) bool { return slices.Contains(mine, t.local) }) {
		t.Close()
	}
	return m.closeLinks(link.ReasonRevoked, func(e *entry) bool {
		return gone(e.link.Peer().ID) || slices.Contains(mine, e.link.Local())
	})
}

func (m *Manager) closeLinks(why link.Reason, which func(*entry) bool) int {
	m.mu.Lock()
	var out []*link.Link
	for l, e := range m.links {
		if which(e) {
			out = append(out, l)
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range out {
		wg.Go(func() { l.Close(why) })
	}
	wg.Wait()
	return len(out)
}

// spawn runs fn in a goroutine that Close waits for; false after Close.
func (m *Manager) spawn(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.wg.Go(fn)
	return true
}

// Close ends everything and waits for it.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	for _, t := range m.tunnelsWhere(func(*Tunnel) bool { return true }) {
		t.Close()
	}
	m.cancel()
	m.closeLinks(link.ReasonClosing, func(*entry) bool { return true })
	m.wg.Wait()
	m.crew.Close()
	return nil
}
