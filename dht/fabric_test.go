package dht_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/dht/storetest"
	"culvert/protocol"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = storetest.Start

// seeds is how many there are, where there is time: what runs in one goroutine shows the race detector nothing.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return max(n/10, 1)
	}
	return n
}

// fabric carries messages between servers without sockets: a call runs the handler.
type fabric struct {
	t     testing.TB
	world *storetest.World

	mu      sync.Mutex
	now     time.Time
	began   time.Time // set inside a synctest bubble, whose time then goes on top of now
	servers map[protocol.ID]*member
	calls   map[protocol.ID]int
}

type member struct {
	node   *storetest.Node
	server *dht.Server
	store  dht.Store
	down   bool
	hook   func(v *protocol.Verified, out []protocol.Out) []protocol.Out
}

func newFabric(t testing.TB) *fabric {
	return &fabric{t: t, world: storetest.NewWorld(t), now: start, servers: make(map[protocol.ID]*member), calls: make(map[protocol.ID]int)}
}

func (f *fabric) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		return f.now
	}
	return f.now.Add(time.Since(f.began))
}

func (f *fabric) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fabric) serve(n *storetest.Node, cfg dht.Config) *member {
	f.t.Helper()
	if cfg.Store == nil {
		cfg.Store = memstore.New()
	}
	cfg.Self, cfg.RootKey = n.ID, f.world.Root.Signing.Public()
	if cfg.Trust == nil {
		cfg.Trust = f.world.Trust
	}
	s, err := dht.NewServer(cfg, f.now)
	if err != nil {
		f.t.Fatal(err)
	}
	s.SetReady(true)
	m := &member{node: n, server: s, store: cfg.Store}
	f.servers[n.ID] = m
	return m
}

// mesh makes super-nodes of domain 100 that share a map.
func (f *fabric) mesh(n int, cfg dht.Config) []*member {
	f.t.Helper()
	var ms []*member
	var nodes []*storetest.Node
	for i := range n {
		node := f.world.Node(100, "super "+string(rune('a'+i)))
		nodes = append(nodes, node)
		ms = append(ms, f.serve(node, cfg))
	}
	_, recs, head := f.world.Map(1, nodes...)
	for _, m := range ms {
		if _, err := m.server.Apply(f.t.Context(), f.now, append(recs[:len(recs):len(recs)], head)); err != nil || m.server.Map() == nil {
			f.t.Fatalf("map: %v", err)
		}
	}
	return ms
}

func message(from, to *storetest.Node, p protocol.Payload) *protocol.Verified {
	b, err := protocol.AppendPayload(nil, p)
	if err != nil {
		panic(err)
	}
	return &protocol.Verified{
		Receiver: to.ID, Sender: from.ID, Command: p.Command(), Payload: b, Session: 1, Node: from.Cert, ReplyLimit: 1148,
	}
}

func (f *fabric) deliver(to *member, v *protocol.Verified) []protocol.Out {
	h := to.server.Handlers()[v.Command]
	if h == nil {
		return nil
	}
	out := h(f.clock(), v)
	if to.hook != nil {
		out = to.hook(v, out)
	}
	for _, o := range out {
		if !o.Reply {
			f.mu.Lock()
			next := f.servers[o.To]
			f.mu.Unlock()
			if next != nil && !next.down {
				f.deliver(next, &protocol.Verified{
					Receiver: o.To, Sender: to.node.ID, Command: o.Command, Payload: o.Payload, Session: 1, Node: to.node.Cert, ReplyLimit: 1148,
				})
			}
		}
	}
	return out
}

// caller is one node's protocol.Caller.
type caller struct {
	f    *fabric
	from *storetest.Node
}

func (c caller) Call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	c.f.mu.Lock()
	m := c.f.servers[to.ID]
	c.f.calls[to.ID]++
	c.f.mu.Unlock()
	if m != nil && !m.down {
		for _, o := range c.f.deliver(m, message(c.from, m.node, p)) {
			if o.Reply {
				return &protocol.Verified{Receiver: c.from.ID, Sender: to.ID, Command: o.Command, Reply: true, Payload: o.Payload}, nil
			}
		}
	}
	<-ctx.Done()
	return nil, errors.New("silence")
}

// say sends one message and returns the reply's command and payload; 0 is silence.
func (f *fabric) say(from *storetest.Node, to *member, p protocol.Payload) (protocol.Command, []byte) {
	for _, o := range f.deliver(to, message(from, to.node, p)) {
		if o.Reply {
			return o.Command, o.Payload
		}
	}
	return 0, nil
}

// put returns the status of a put under the record's own key, or -1 for silence.
func (f *fabric) put(from *storetest.Node, to *member, raw []byte) int {
	return f.putAt(from, to, raw, storetest.Parse(f.t, raw).Owner)
}

func (f *fabric) putAt(from *storetest.Node, to *member, raw []byte, k protocol.ID) int {
	c, b := f.say(from, to, protocol.Put{Key: k, Record: raw})
	if c != protocol.CmdStored {
		return -1
	}
	st, err := protocol.ParseStored(b)
	if err != nil {
		f.t.Fatal(err)
	}
	return int(st.Status)
}
