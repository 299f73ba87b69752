package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/key"
	"culvert/tunnel/link"
	"culvert/tunnel/relay"
)

// longEnough is how long an event that must come is waited for, however slow and busy the machine is.
const longEnough = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a mesh on loopback under made-up addresses: who dials one of them is led to the real listener behind it.
type world struct {
	t        testing.TB
	operator *key.Pair
	root     *key.Pair
	trust    *protocol.Trust
	seeds    byte

	mu      sync.Mutex
	real    map[netip.AddrPort]string
	dials   map[netip.AddrPort]int
	held    map[netip.AddrPort]chan struct{} // dials wait for it
	agents  map[protocol.ID]*agent
	relays  []*relayNode
	devices map[protocol.ID]Device
	targets map[protocol.ID][]protocol.ID // device → tunnel-nodes
	revoked map[protocol.ID]bool
	capture func([]byte) // sees what passes the relays
	slow    bool         // relays do not splice
}

// agent is a node of the world.
type agent struct {
	*Manager
	w        *world
	pair     *key.Pair
	node     *protocol.CertifiedNode
	place    protocol.Hash // its location
	own      []netip.Prefix
	streams  *carrier.TCP
	macs     map[[6]byte]netip.Addr
	isolated bool          // offers no candidates
	deaf     bool          // answers no requests
	stuck    chan struct{} // the mesh answers when it is closed
	doubts   int
	puncher  *puncher             // nil: no UDP
	opened   []protocol.Candidate // by its router
	requests []protocol.Hash
	further  map[protocol.ID]*protocol.CertifiedNode // memberships beside the first
}

type relayNode struct {
	peer    protocol.Peer
	relay   *relay.Relay
	streams *carrier.TCP
	joins   [][]byte
	mu      sync.Mutex
	frozen  chan struct{} // closed when the relay moves bytes again
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, real: map[netip.AddrPort]string{}, dials: map[netip.AddrPort]int{}, agents: map[protocol.ID]*agent{},
		devices: map[protocol.ID]Device{}, targets: map[protocol.ID][]protocol.ID{}, revoked: map[protocol.ID]bool{}}
	w.root, w.operator = w.pair(), w.pair()
	w.trust = protocol.NewTrust(w.root.Signing.Public().Hash())
	value, err := protocol.Marshal(protocol.OperatorNodeValue{Signing: w.operator.Signing.Public(), Sealing: w.operator.Sealing.Public()})
	check(t, err)
	now := time.Now()
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableOperatorNode, Owner: protocol.NodeID(protocol.OperatorDomain, w.operator.Signing.Public()),
		Signer: w.trust.RootID(), Epoch: 1, Sequence: 1, Issued: now, Expires: now.Add(time.Hour), Value: value,
	}, w.root.Signing)
	check(t, err)
	check(t, w.trust.AddOperator(raw, w.root.Signing.Public(), now))
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) pair() *key.Pair {
	w.seeds++
	p, err := key.Generate(bytes.NewReader(bytes.Repeat([]byte{w.seeds}, 64)))
	check(w.t, err)
	return p
}

// certify signs a node's certificate.
func (w *world) certify(p *key.Pair, d protocol.Domain, sequence uint64, lasts time.Duration, groups ...string) *protocol.CertifiedNode {
	value, err := protocol.Marshal(protocol.NodeValue{Signing: p.Signing.Public(), Sealing: p.Sealing.Public(), Groups: groups})
	check(w.t, err)
	now := time.Now()
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNode, Owner: protocol.NodeID(d, p.Signing.Public()),
		Signer: protocol.NodeID(protocol.OperatorDomain, w.operator.Signing.Public()), Epoch: 1, Sequence: sequence,
		Issued: now, Expires: now.Add(lasts), Value: value,
	}, w.operator.Signing)
	check(w.t, err)
	n, err := w.trust.CheckNode(raw, now)
	check(w.t, err)
	return n
}

func (a *agent) candidates() []protocol.Candidate {
	return append(slices.Clone(a.opened), Candidates(a.Own(), 7700)...)
}

// mapped gives an agent a port that its router has opened for it at addr.
func mapped(addr string) agentOption {
	return func(a *agent, _ *Config, _ *Identity) {
		a.opened = []protocol.Candidate{{Kind: protocol.CandidateMapped, Protocol: protocol.TCP, Addr: addrOf(addr), Priority: 250}}
	}
}

type agentOption func(*agent, *Config, *Identity)

// agent starts a node in a domain with interface addresses; the location is the first byte of place.
func (w *world) agent(d protocol.Domain, place byte, own []netip.Prefix, opts ...agentOption) *agent {
	p := w.pair()
	a := &agent{w: w, pair: p, node: w.certify(p, d, 1, time.Hour, "office"), place: protocol.Hash{place}, own: own,
		macs: map[[6]byte]netip.Addr{}}
	cfg := Config{Resolver: a, Locator: a, Signaler: a, Candidates: a.candidates, DialNode: w.dial, DialDevice: w.dial, DialDeviceUDP: w.dialUDP, Revoked: w.isRevoked}
	// A machine that is busy elsewhere has not fallen silent. A test of time limits gives its own.
	cfg.Timing = link.Timing{Suspect: longEnough, Answer: longEnough}
	cfg.OpenTimeout, cfg.strangerFor = longEnough, longEnough
	id := Identity{Key: p.Signing, Node: a.node, Trust: w.trust, Serve: true}
	for _, o := range opts {
		o(a, &cfg, &id)
	}
	m, err := New(cfg)
	check(w.t, err)
	check(w.t, m.AddIdentity(id))
	a.Manager = m
	a.streams = w.listen(carrier.TCPConfig{
		Timeout: longEnough, TLS: m.ServerTLS(), Protocols: map[string]func(*tls.Conn){link.ALPN: func(c *tls.Conn) { _ = m.AcceptLink(c) }},
		Raw: map[byte]func(*carrier.Peeked){link.PrefaceByte: func(c *carrier.Peeked) { _ = m.AcceptBulk(c) }},
	})
	w.mu.Lock()
	w.agents[a.node.ID] = a
	for _, p := range own {
		w.real[netip.AddrPortFrom(p.Addr(), 7700)] = a.streams.LocalAddr().String()
	}
	for _, c := range a.opened {
		w.real[c.Addr.AddrPort] = a.streams.LocalAddr().String()
	}
	w.mu.Unlock()
	w.t.Cleanup(func() {
		_ = a.Manager.Close()
		_ = a.streams.Close()
	})
	return a
}

func (w *world) listen(cfg carrier.TCPConfig) *carrier.TCP {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(w.t, err)
	s, err := carrier.ServeTCP(l, cfg)
	check(w.t, err)
	return s
}

func (w *world) isRevoked(id protocol.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.revoked[id]
}

// dial leads a made-up address to its listener.
func (w *world) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	addr, ok := w.real[a]
	held := w.held[a]
	w.dials[a]++
	w.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: errors.New("no route to host")}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// tapped lets a test see what passes a relay.
type tapped struct {
	*carrier.Peeked
	see func([]byte)
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.Peeked.Read(b)
	c.see(b[:n])
	return n, err
}

// relayNode starts a super-node's relay.
func (w *world) relayNode(addr string) *relayNode {
	p := w.pair()
	at := netip.MustParseAddrPort(addr)
	n := &relayNode{peer: protocol.Peer{ID: protocol.NodeID(77, p.Signing.Public()), Addr: at}}
	r, err := relay.New(relay.Config{
		Hello: longEnough, Wait: longEnough,
		Verify: func(raw []byte) (*protocol.Verified, protocol.RelayJoin, error) {
			var j protocol.RelayJoin
			if len(raw) < protocol.IDSize {
				return nil, j, errors.New("short")
			}
			n.mu.Lock()
			n.joins = append(n.joins, raw)
			n.mu.Unlock()
			err := protocol.Unmarshal(raw[protocol.IDSize:], &j)
			return &protocol.Verified{Sender: protocol.ID(raw[:protocol.IDSize])}, j, err
		},
		TCP: func(c relay.Conn) *net.TCPConn {
			if p := c.(*tapped); w.capture == nil && !w.slow {
				return p.TCPConn
			}
			return nil
		},
	})
	check(w.t, err)
	n.relay = r
	n.streams = w.listen(carrier.TCPConfig{Raw: map[byte]func(*carrier.Peeked){relay.FirstByte: func(c *carrier.Peeked) {
		_ = r.Serve(&tapped{c, func(b []byte) {
			n.mu.Lock()
			frozen := n.frozen
			n.mu.Unlock()
			if frozen != nil {
				<-frozen
			}
			if w.capture != nil {
				w.capture(b)
			}
		}})
	}}})
	w.mu.Lock()
	w.real[at] = n.streams.LocalAddr().String()
	w.relays = append(w.relays, n)
	w.mu.Unlock()
	w.t.Cleanup(n.kill)
	return n
}

func (n *relayNode) kill() {
	_ = n.relay.Close()
	_ = n.streams.Close()
}

// device registers a device that stands at addr and speaks with serve; agents are its tunnel-nodes.
func (w *world) device(name string, addr string, place byte, serve func(*net.TCPConn), agents ...*agent) Device {
	at := netip.MustParseAddrPort(addr)
	w.seeds++
	mac := [6]byte{2, 0, 0, 0, 1, w.seeds}
	d := Device{ID: protocol.NewID(agents[0].node.ID.Domain(), protocol.Hash{w.seeds}), Value: protocol.EndDeviceValue{
		Name: name, MAC: mac[:], Ports: []protocol.Port{{Number: at.Port(), Protocol: protocol.TCP}}, Locations: []protocol.Hash{{place}},
	}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range agents {
		a.macs[mac] = at.Addr()
		w.targets[d.ID] = append(w.targets[d.ID], a.node.ID)
	}
	w.devices[d.ID] = d
	if serve != nil {
		w.real[at] = listenDevice(w.t, serve)
	}
	return d
}

// change edits a device's record.
func (w *world) change(d Device, fn func(*protocol.EndDeviceValue)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d = w.devices[d.ID]
	fn(&d.Value)
	w.devices[d.ID] = d
}

func listenDevice(t testing.TB, serve func(*net.TCPConn)) string {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []*net.TCPConn
	wg.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range all {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// What devices do.
func echoDevice(c *net.TCPConn) {
	defer c.Close()
	if _, err := io.Copy(c, c); err == nil {
		_ = c.CloseWrite()
	}
}

func hashDevice(c *net.TCPConn) { // answers the hash of all it got, once the sender has ended
	defer c.Close()
	h := sha256.New()
	if _, err := io.Copy(h, c); err == nil {
		_, _ = c.Write(h.Sum(nil))
	}
}

// tunnel opens a tunnel or fails the test.
func (a *agent) tunnel(t testing.TB, device string, port uint16, routes ...Route) *Tunnel {
	t.Helper()
	return a.mustOpen(t, OpenRequest{Device: device, Port: port, Routes: routes})
}

// settled waits until the tunnel-node has the tunnel's link in its table: flows are served as soon as the two have greeted.
func (w *world) settled(t testing.TB, tn *Tunnel) {
	t.Helper()
	tn.mu.Lock()
	p := tn.path
	tn.mu.Unlock()
	if p == nil || p.link == nil {
		return
	}
	w.mu.Lock()
	node := w.agents[p.node]
	w.mu.Unlock()
	until(t, "the tunnel-node has the link", func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		for l := range node.links {
			if l.Number() == p.link.Number() {
				return true
			}
		}
		return p.link.Err() != nil
	})
}

// mustOpen tries again where a time limit has passed on the way, as it may on a machine that stands still for seconds.
func (a *agent) mustOpen(t testing.TB, q OpenRequest) *Tunnel {
	t.Helper()
	for end := time.Now().Add(longEnough); ; {
		tn, err := a.Open(context.Background(), q)
		if err == nil {
			a.w.settled(t, tn)
			return tn
		}
		var none *NoRouteError
		if !errors.As(err, &none) || none.Receipt.Took < 2*time.Second || time.Now().After(end) {
			t.Fatalf("open %s: %v", q.Device, err)
		}
	}
}

// persistentTunnel opens a tunnel where time limits are so short that a busy machine may need several attempts.
func (a *agent) persistentTunnel(t testing.TB, device string, port uint16) (tn *Tunnel) {
	t.Helper()
	until(t, "a tunnel to "+device, func() bool {
		var err error
		tn, err = a.Open(context.Background(), OpenRequest{Device: device, Port: port})
		return err == nil
	})
	return tn
}

// open is how many flows the node serves now.
func (a *agent) open() (n int) {
	for _, s := range a.Served() {
		n += s.Open
	}
	return n
}

// freePort is a local address that nobody else gets, for who listens there twice.
func freePort(t testing.TB) netip.AddrPort {
	p, err := carrier.FreePort()
	check(t, err)
	return netip.AddrPortFrom(loopback(), p)
}

func dialTunnel(t testing.TB, tn *Tunnel) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", tn.Local().String())
	check(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// benchDevice is where the benchmarks' device stands.
func benchDevice() netip.AddrPort { return netip.MustParseAddrPort("192.168.7.50:9100") }
