package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht/sqlite"
	"culvert/discovery"
	"culvert/discovery/nat"
	"culvert/node/batch"
	"culvert/node/config"
	"culvert/node/localapi"
	"culvert/node/socks"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/carrier/descriptors"
	"culvert/protocol/endpoint"
	"culvert/tunnel"
	"culvert/tunnel/portmap"
	"culvert/tunnel/punch"
	"culvert/tunnel/quicconn"
	"culvert/tunnel/relay"
)

var (
	// ErrNotEnrolled means that the node is in no domain.
	ErrNotEnrolled = errors.New("this agent is not enrolled; run: culvert join TOKEN")
	errClosed      = errors.New("the node is stopping")
)

// Config is what a node is made of. Dir, Settings and Log are required.
type Config struct {
	Dir       string
	Settings  config.Config
	Version   string
	Log       *slog.Logger
	Extension *Extension       // the operator, where this process is one
	Now       func() time.Time // time.Now where nil
	Network   Network          // in place of the system's, for tests
	// Descriptors is how many this process may have; 0: as many as the system says.
	Descriptors int
}

// Node is one daemon.
type Node struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	tasks   *tasks

	store   *sqlite.Store
	conn    *carrier.UDP
	lane    *carrier.Lane // QUIC's part of conn
	quic    *quicconn.Endpoint
	punches *punch.Meetings // meetings by UDP, of all memberships
	tcp     *carrier.TCP
	mux     *carrier.Mux // conn, and streams where UDP does not pass
	web     *carrier.Web // streams at ports 443 and 80; nil where this node is not there
	choice  choice       // of the carrier; see carriers.go
	ep      *endpoint.Endpoint
	pool    *batch.Pool[func()]
	room    *descriptors.Budget
	tunnels *tunnel.Manager
	relay   *relay.Relay
	forward *forwarder
	finder  *discovery.Finder
	watcher *discovery.Watcher
	mapper  *portmap.Mapper // nil where routers are not asked for anything
	api     *localapi.Server
	socks   atomic.Pointer[socks.Server]
	events  *localapi.Events

	common    routes
	serving   atomic.Pointer[serving]
	drops     counters
	wakeTick  chan struct{}
	tickRests atomic.Bool   // the tick loop sleeps until the next sweep
	pressed   atomic.Bool   // the socket brings more than is handled
	busyNow   chan struct{} // this node may be an end of a live tunnel
	calls     calls
	asking    asking // TunnelRequests whose answers come by way of a super-node
	nat       *natState
	probes    *reachProbes

	gateways atomic.Pointer[[]discovery.Gateway]
	located  chan struct{} // closed with the first look at the networks
	families atomic.Uint32 // see families.go

	mu          sync.Mutex
	memberships map[protocol.Domain]*membership
	claimed     *membership // the one that is, or would be, a super-node
	known       map[protocol.Hash]*mesh

	forwardsMu sync.Mutex     // one writer of forwards.json
	waiting    []savedForward // lasting tunnels that could not be restored: kept for the next start
}

// New opens everything that a node needs and starts nothing that talks. Close it when Run is not called.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, started: cfg.Now(), tasks: newTasks(context.WithoutCancel(ctx)),
		wakeTick: make(chan struct{}, 1), busyNow: make(chan struct{}, 1), located: make(chan struct{}), memberships: make(map[protocol.Domain]*membership),
		nat: newNATState(), probes: newReachProbes(mrand.Uint64),
		known: make(map[protocol.Hash]*mesh), events: localapi.NewEvents(localapi.DefaultQueue, localapi.DefaultListeners),
	}
	n.calls.waiting = make(map[endpoint.CallID]chan<- answer)
	n.asking.waiting = make(map[protocol.Hash]awaited)
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// open makes the parts in the order in which they need each other.
func (n *Node) open(ctx context.Context) (err error) {
	cfg := n.cfg
	if n.store, err = sqlite.Open(ctx, filepath.Join(cfg.Dir, "node.db"), sqlite.Options{Log: n.log, Now: cfg.Now}); err != nil {
		return fmt.Errorf("open node.db: %w", err)
	}
	if n.ep, err = endpoint.New(endpoint.Config{
		Rand: rand.Reader, Sessions: cfg.Settings.Sessions, Lookup: n.nodeRecord,
		ClockOffset: n.loadClockOffset(), ClockLearned: n.clockLearned,
	}); err != nil {
		return err
	}
	if n.forward, err = newForwarder(rand.Reader, n.inContact, n.drops.add); err != nil {
		return err
	}
	n.finder = discovery.NewFinder(discovery.FinderConfig{})
	n.pool = newPool(n.tasks)
	n.openDescriptors()
	if err := n.openTunnels(); err != nil {
		return err
	}
	n.handle()
	if err := n.listen(); err != nil {
		return err
	}
	if n.watcher, err = discovery.Watch(discovery.WatchConfig{}); err != nil {
		return fmt.Errorf("watch networks: %w", err)
	}
	if err := n.openMapper(ctx); err != nil {
		return fmt.Errorf("port mapping: %w", err)
	}
	if err := n.loadMemberships(); err != nil {
		return err
	}
	if cfg.Extension != nil {
		if err := n.plugIn(cfg.Extension); err != nil {
			return err
		}
	}
	return nil
}

// Run serves until ctx is done or something without which a node is none ends, and then stops gracefully.
func (n *Node) Run(ctx context.Context) error {
	n.startLoops()
	if n.cfg.Extension != nil {
		n.tasks.start(func(ctx context.Context) {
			if err := n.cfg.Extension.Run(ctx, &OperatorMesh{n: n}); err != nil && ctx.Err() == nil {
				n.tasks.fail(err)
			}
		})
	}
	if len(n.members()) > 0 {
		n.awaitNetworks(ctx)
	}
	n.startMemberships()
	n.restoreForwards() // before anybody can open one, which would save what is open as all there is
	if err := n.startSOCKS(); err != nil {
		n.Close()
		return err
	}
	if err := n.startAPI(); err != nil {
		n.Close()
		return err
	}
	n.log.Info("node is up", "listen", n.conn.LocalAddr().String(), "memberships", len(n.members()), "version", n.cfg.Version)
	select {
	case <-ctx.Done():
	case <-n.tasks.ctx.Done():
	}
	n.farewell()
	return n.Close()
}

// Close stops everything that was started and waits for it. It may be called twice.
func (n *Node) Close() error {
	n.tasks.cancel()
	var errs []error
	closing := func(name string, f func() error) {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if n.api != nil {
		closing("local API", n.api.Close)
	}
	closing("port mapping", n.closeMapper)
	if s := n.socks.Load(); s != nil {
		closing("SOCKS", s.Close)
	}
	// Tunnels and relay first: the TCP port waits for its connections, and theirs last until they are told.
	if n.tunnels != nil {
		closing("tunnels", n.tunnels.Close)
	}
	if n.punches != nil {
		n.punches.Close()
	}
	if n.quic != nil {
		closing("QUIC", n.quic.Close)
	}
	if n.relay != nil {
		closing("relay", n.relay.Close)
	}
	if n.web != nil {
		closing("HTTPS", n.web.Close)
	}
	if n.tcp != nil {
		closing("TCP", n.tcp.Close)
	}
	if n.watcher != nil {
		closing("watcher", n.watcher.Close)
	}
	if n.finder != nil {
		closing("finder", n.finder.Close)
	}
	if s := n.serving.Load(); s != nil {
		closing("replica", s.stop)
	}
	for _, m := range n.members() {
		m.stop()
	}
	if n.mux != nil {
		closing("UDP", n.mux.Close)
	}
	if err := n.tasks.stop(); err != nil {
		errs = append(errs, err)
	}
	if n.store != nil {
		closing("node.db", n.store.Close)
	}
	return errors.Join(errs...)
}

func (n *Node) now() time.Time { return n.cfg.Now() }

// meshNow is the time as the operator has it, for judging records and for signing them.
func (n *Node) meshNow() time.Time { return n.now().Add(n.ep.Offset()) }

// handle fills the table of what every node does.
func (n *Node) handle() {
	n.common[protocol.CmdPing] = route{handler: n.ping, inline: always}
	n.common[protocol.CmdForwardedTunnelRequest] = route{handler: n.forwardedRequest, inline: never}
	n.common[protocol.CmdForwardedTunnelOpened] = route{handler: n.forwardedOpened, inline: always}
	n.common[protocol.CmdTunnelRequest] = route{handler: n.tunnelRequest, inline: never}
	n.common[protocol.CmdProbeReach] = route{handler: n.probeReach, inline: never}
}

func (n *Node) ping(now time.Time, v *protocol.Verified) []protocol.Out {
	m := protocol.Pong{Time: n.meshNow().UnixMilli(), Observed: protocol.AddrOf(v.From)}
	return v.Answer(protocol.CmdPong, m.AppendPayload(v.Room(protocol.MaxPong)))
}

// listen takes the node's port number on UDP and TCP.
func (n *Node) listen() error {
	host, port, err := net.SplitHostPort(n.cfg.Settings.Listen)
	if err != nil {
		return fmt.Errorf("listen %q: %w", n.cfg.Settings.Listen, err)
	}
	p, err := net.LookupPort("udp", port)
	if err != nil {
		return fmt.Errorf("listen %q: %w", n.cfg.Settings.Listen, err)
	}
	udp, tcp, err := carrier.ListenPair(host, uint16(p), !n.cfg.Settings.ListenSet)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.cfg.Settings.Listen, err)
	}
	n.conn, n.lane, n.punches = udp, carrier.NewLane(udp), punch.NewMeetings(&punchSender{conn: udp})
	if n.quic, err = quicconn.New(n.lane); err != nil {
		return errors.Join(err, tcp.Close())
	}
	if err := n.openCarriers(); err != nil {
		_ = tcp.Close()
		return err
	}
	cfg, err := n.tcpConfig()
	if err != nil {
		_ = tcp.Close()
		return err
	}
	if n.tcp, err = carrier.ServeTCP(tcp, cfg); err != nil {
		return err
	}
	return n.openWeb(host)
}

// bound is the address that was asked for, unspecified for all, with the port that was taken.
func (n *Node) bound() netip.AddrPort { return n.conn.LocalAddr() }

// onlyAddress is the one address that this node listens on, where one was asked for.
func (n *Node) onlyAddress() (a netip.Addr, ok bool) {
	a = n.bound().Addr()
	return a, a.IsValid() && !a.IsUnspecified()
}

func (n *Node) startLoops() {
	n.tasks.start(n.readLoop)
	n.tasks.start(n.streamLoop)
	n.tasks.start(n.carrierLoop)
	n.tasks.start(n.tickLoop)
	n.tasks.start(n.expireLoop)
	n.tasks.start(n.watchLoop)
	n.tasks.start(n.busyLoop)
	n.tasks.start(n.eventLoop)
	n.tasks.start(n.installerLoop)
	n.tasks.start(n.natLoop)
	n.tasks.start(n.keepaliveLoop)
	n.tasks.start(n.trimLoop)
}

// expireLoop collects expired records, which nobody is given any more. It writes to the disk, which may sleep where it is idle.
func (n *Node) expireLoop(ctx context.Context) {
	every(ctx, 10*time.Minute, func() {
		if _, err := n.store.Expire(ctx, n.meshNow()); err != nil && ctx.Err() == nil {
			n.log.Warn("expired records not collected", "error", err)
		}
	})
}

// nodeRecord finds a Node record in the local store, for the endpoint.
func (n *Node) nodeRecord(id protocol.ID) ([]byte, bool) {
	raw, err := n.store.Get(protocol.TableNode, id, n.meshNow())
	return raw, err == nil
}

// inContact reports whether a node keeps in contact with this one.
func (n *Node) inContact(id protocol.ID) bool {
	s := n.serving.Load()
	if s == nil {
		return false
	}
	_, at, ok := n.ep.Observed(s.id, id)
	return ok && n.now().Sub(at) < contactLife
}

// contactLife is for how long a node counts as reachable that was heard: two of the longest intervals at which a NAT's binding is
// kept open, and a little more.
const contactLife = 2*nat.LongestKeepalive + 10*time.Second

// members are the memberships, in no order.
func (n *Node) members() []*membership {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := make([]*membership, 0, len(n.memberships))
	for _, m := range n.memberships {
		l = append(l, m)
	}
	return l
}

func (n *Node) member(d protocol.Domain) (*membership, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m, ok := n.memberships[d]
	return m, ok
}

func (n *Node) meshes() []*mesh {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := make([]*mesh, 0, len(n.known))
	for _, s := range n.known {
		l = append(l, s)
	}
	return l
}
