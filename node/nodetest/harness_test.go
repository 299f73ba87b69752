package nodetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/config"
	"culvert/node/enrol"
	"culvert/operator"
	"culvert/operator/api"
	"culvert/protocol"
	"culvert/protocol/carrier"
)

var admin = operator.Actor{Name: "test"}

func newLog(w io.Writer) *slog.Logger {
	if os.Getenv("NODETEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func loopbackSettings() config.Config {
	s := config.Default()
	s.Listen, s.ListenSet = "127.0.0.1:0", true
	return s
}

// mesh is one operator and whoever is enrolled with it.
type mesh struct {
	t      testing.TB
	dir    string
	https  string
	port   uint16
	op     *operator.Operator
	node   *node.Node
	hands  atomic.Pointer[node.OperatorMesh] // what the operator's part has of its node
	cancel context.CancelFunc
	ended  chan error
	made   int
	net    node.Network // the operator's
	agents node.Network // that of agents, until a test says otherwise
	set    func(*config.Config)
}

// newMesh makes an operator with these domains and runs it. They are the operator's own: no customer's limit keeps their
// super-nodes off the map.
func newMesh(t testing.TB, domains ...string) *mesh {
	t.Helper()
	return newMeshAs(t, func(*mesh) {}, domains...)
}

// newCustomers is newMesh for domains of customers.
func newCustomers(t testing.TB, domains ...string) *mesh {
	t.Helper()
	m := newMesh(t, domains...)
	for _, d := range domains {
		must[operator.DomainView](t)(m.op.SetOwnDomain(t.Context(), admin, d, false))
	}
	return m
}

// newMeshAs makes one whose operator is set up otherwise.
func newMeshAs(t testing.TB, set func(*mesh), domains ...string) *mesh {
	t.Helper()
	m := &mesh{t: t, dir: t.TempDir(), set: func(*config.Config) {}}
	set(m)
	m.https, m.port = freeAddr(t), freePort(t)
	l := must[net.Listener](t)(net.Listen("tcp4", m.https))
	must[*operator.Summary](t)(operator.Init(t.Context(), m.opDir(), operator.InitOptions{Advertise: m.https}))
	m.start(l)
	t.Cleanup(m.stop)
	for _, d := range domains {
		must[operator.DomainView](t)(m.op.AddDomain(t.Context(), admin, d))
		must[operator.DomainView](t)(m.op.SetOwnDomain(t.Context(), admin, d, true))
	}
	return m
}

func (m *mesh) opDir() string { return filepath.Join(m.dir, "operator") }

// freePort is a number that is free on UDP and TCP, and stays so until it is used.
func freePort(t testing.TB) uint16 { return must[uint16](t)(carrier.FreePort()) }

func freeAddr(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", freePort(t)) }

// start runs the operator as `culvert operator run` does.
func (m *mesh) start(l net.Listener) {
	t := m.t
	t.Helper()
	if l == nil {
		l = must[net.Listener](t)(net.Listen("tcp4", m.https))
	}
	log := newLog(os.Stderr).With("node", "operator")
	op := must[*operator.Operator](t)(operator.Open(context.Background(), m.opDir(), operator.Options{Log: log}))
	sock := must[net.Listener](t)(api.ListenAdmin(m.opDir()))
	noError(t, op.Announce(context.Background(), m.port))
	s := loopbackSettings()
	s.Listen = fmt.Sprintf("127.0.0.1:%d", m.port)
	m.set(&s)
	keys, record, trust := op.Identity()
	former, formerRecord, err := op.FormerIdentity(context.Background())
	noError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	up := make(chan struct{})
	n, err := node.New(ctx, node.Config{Dir: m.opDir(), Settings: s, Version: "test", Log: log, Network: m.net, Extension: &node.Extension{
		Keys: keys, Record: record, Trust: trust, RootKey: op.RootKey(), Former: former, FormerRecord: formerRecord, Handlers: op.Handlers(), Secrets: op.DomainSecrets,
		Run: func(ctx context.Context, om *node.OperatorMesh) error {
			m.hands.Store(om)
			if err := om.Fill(ctx, op.StaticRecords(ctx)); err != nil {
				return err
			}
			close(up)
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return op.Run(ctx, om) })
			g.Go(func() error {
				return api.Serve(ctx, api.Config{Operator: op, HTTPS: l, Admin: sock, Log: log, Streams: om.Streams()})
			})
			return g.Wait()
		},
	}})
	noError(t, err)
	m.op, m.node, m.cancel, m.ended = op, n, cancel, make(chan error, 1)
	go func() { m.ended <- n.Run(ctx) }()
	<-up
}

// stop ends the operator; the mesh goes on.
func (m *mesh) stop() {
	if m.cancel == nil {
		return
	}
	m.cancel()
	<-m.ended
	m.op.Close()
	m.cancel = nil
}

// token makes a join token of so many uses.
func (m *mesh) token(domain string, uses int, groups ...string) string {
	m.t.Helper()
	return must[operator.TokenView](m.t)(m.op.CreateToken(m.t.Context(), admin, operator.TokenSpec{Domain: domain, Uses: uses, Groups: groups})).Token
}

// agent is a daemon in this process, or a process of its own.
type agent struct {
	t      testing.TB
	name   string
	dir    string
	set    config.Config
	net    node.Network
	node   *node.Node // nil for a process
	api    *client.Client
	cancel context.CancelFunc
	ended  chan error
}

// enrolled makes the directory of a new node in the domain, without starting it.
func (m *mesh) enrolled(name, domain string, groups ...string) *agent {
	m.t.Helper()
	m.made++
	a := &agent{t: m.t, name: name, dir: filepath.Join(m.dir, strconv.Itoa(m.made)+name), set: loopbackSettings(), net: m.agents}
	a.set.Listen = freeAddr(m.t) // the same after a restart: others know it
	noError(m.t, config.MakeDataDir(a.dir))
	if domain != "" {
		noError(m.t, a.enrol(m.token(domain, 1, groups...)))
	}
	return a
}

// enrol is `culvert join`, again where the operator did not answer in time: the answer to the same keys is the same.
func (a *agent) enrol(token string) (err error) {
	for end := time.Now().Add(patience); ; {
		_, _, err = node.Enrol(a.t.Context(), a.dir, token, a.name, time.Now)
		if !errors.Is(err, enrol.ErrUnreachable) || time.Now().After(end) {
			return err
		}
	}
}

// agent makes and starts a node.
func (m *mesh) agent(name, domain string, set func(*config.Config), groups ...string) *agent {
	m.t.Helper()
	a := m.enrolled(name, domain, groups...)
	if set != nil {
		set(&a.set)
	}
	a.start()
	return a
}

// super makes and starts a super-node and waits until the map names it.
func (m *mesh) super(name, domain string) *agent {
	m.t.Helper()
	a := m.agent(name, domain, func(c *config.Config) { c.Super, c.Tunnel = true, false })
	a.serving()
	return a
}

func isSuper(s client.Status) bool {
	return slices.Contains(s.Roles, "super")
}

// serving waits until the node serves records.
func (a *agent) serving() {
	a.t.Helper()
	eventually(a.t, a.name+" serves", func() bool {
		s, err := a.api.Status(a.t.Context())
		return err == nil && isSuper(s)
	})
}

// start runs the agent in this process.
func (a *agent) start() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.New(ctx, node.Config{Dir: a.dir, Settings: a.set, Version: "test", Log: newLog(os.Stderr).With("node", a.name), Network: a.net})
	if err != nil {
		cancel()
		a.t.Fatal(err)
	}
	a.node, a.cancel, a.ended = n, cancel, make(chan error, 1)
	go func() { a.ended <- n.Run(ctx) }()
	a.t.Cleanup(a.stop)
	a.connect()
}

func (a *agent) connect() {
	a.t.Helper()
	eventually(a.t, a.name+" answers its API", func() bool {
		c, err := client.Dial(a.t.Context(), a.dir)
		if err == nil {
			a.api = c
		}
		return err == nil
	})
}

func (a *agent) stop() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	<-a.ended
	a.api.Close()
	a.cancel = nil
}

// member is the agent's membership of that name, or its only one.
func (a *agent) member(domain string) client.Membership {
	a.t.Helper()
	s := must[client.Status](a.t)(a.api.Status(a.t.Context()))
	for _, m := range s.Memberships {
		if domain == "" && len(s.Memberships) == 1 || m.Domain == domain {
			return m
		}
	}
	a.t.Fatalf("%s is not in %q", a.name, domain)
	return client.Membership{}
}

func (a *agent) id(domain string) protocol.ID {
	a.t.Helper()
	return must[protocol.ID](a.t)(protocol.ParseID(a.member(domain).NodeID))
}

func (a *agent) addr() netip.AddrPort {
	a.t.Helper()
	return netip.MustParseAddrPort(must[client.Status](a.t)(a.api.Status(a.t.Context())).Listen[0])
}

// announced waits until the super-node tells where the agents are and by whom they can be reached.
func (m *mesh) announced(super *agent, agents ...*agent) {
	m.t.Helper()
	for _, a := range agents {
		mem := a.member("")
		p := m.probe(mem.Domain, false) // not with the agent's own keys: it would seem to have moved to the probe's address
		to, q := super.peer(), protocol.GetNodeInfo{ID: a.id("")}
		eventually(m.t, a.name+" is announced", func() bool {
			l, err := p.list(to, q)
			if err != nil || len(l) != 1 {
				return false
			}
			v, err := p.nodeInfo(l[0])
			return err == nil && len(v.Homes) > 0
		})
		p.close()
	}
}

// count is the sum of the node's counters of these names, "part: reason".
func count(n *node.Node, names ...string) (sum uint64) {
	s := n.Stats()
	for _, name := range names {
		part, reason, _ := strings.Cut(name, ": ")
		sum += s[part][reason]
	}
	return sum
}

// device registers a device on the agent's own machine.
func (m *mesh) device(at *agent, d *device, allow ...string) operator.DeviceView {
	m.t.Helper()
	v := at.member("")
	return must[operator.DeviceView](m.t)(m.op.AddDevice(m.t.Context(), admin, operator.DeviceSpec{
		Name: d.name, Domain: v.Domain, Node: v.NodeID, Ports: []string{d.portText()}, Allow: allow,
	}))
}

// sees waits until the mesh tells the agent of these devices.
func (a *agent) sees(names ...string) {
	a.t.Helper()
	for _, name := range names {
		eventually(a.t, a.name+" sees "+name, func() bool {
			l, err := a.api.Devices(a.t.Context(), client.DeviceQuery{Refresh: true})
			return err == nil && slices.ContainsFunc(l, func(d client.Device) bool { return d.Name == name })
		})
	}
}
