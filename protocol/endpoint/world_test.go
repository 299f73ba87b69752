package endpoint_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

var start = time.UnixMilli(1_790_000_000_000)

// world is an operator, some nodes, and a network between them that is stepped by hand.
type world struct {
	t     testing.TB
	now   time.Time
	rand  *rand.ChaCha8
	root  *key.Pair
	op    *key.Pair
	opRec []byte
	nodes map[netip.AddrPort]*node
	next  int
	// seen is told of every datagram on its way; false loses it.
	seen func(from, to netip.AddrPort, b []byte) bool
	sent int
}

// node is one process at one address.
type node struct {
	w      *world
	addr   netip.AddrPort
	e      *endpoint.Endpoint
	out    endpoint.Outbox
	ids    []endpoint.Identity
	skew   time.Duration
	events []endpoint.Event
	// handle answers requests; the default answers Ping by Pong and GetNodeInfo by as much as fits.
	handle func(v *protocol.Verified) (protocol.Command, []byte, bool)
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, now: start, rand: rand.NewChaCha8([32]byte{1}), nodes: make(map[netip.AddrPort]*node)}
	w.root, w.op = w.keys(), w.keys()
	v, err := protocol.Marshal(protocol.OperatorNodeValue{Signing: w.op.Signing.Public(), Sealing: w.op.Sealing.Public()})
	w.must(err)
	rootID := protocol.NewID(protocol.OperatorDomain, w.root.Signing.Public().Hash())
	w.opRec, err = protocol.SignRecord(&protocol.Record{
		Table: protocol.TableOperatorNode, Owner: w.opID(), Signer: rootID, Epoch: 1, Sequence: 1,
		Issued: start.Add(-time.Hour), Expires: start.Add(365 * 24 * time.Hour), Value: v,
	}, w.root.Signing)
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) keys() *key.Pair {
	p, err := key.Generate(w.rand)
	w.must(err)
	return p
}

func (w *world) opID() protocol.ID {
	return protocol.NodeID(protocol.OperatorDomain, w.op.Signing.Public())
}

func (w *world) trust() *protocol.Trust {
	t := protocol.NewTrust(w.root.Signing.Public().Hash())
	w.must(t.AddOperator(w.opRec, w.root.Signing.Public(), start))
	return t
}

// certify signs a Node record.
func (w *world) certify(d protocol.Domain, k *key.Pair, sequence uint64, life time.Duration) (protocol.ID, []byte) {
	id := protocol.NodeID(d, k.Signing.Public())
	v, err := protocol.Marshal(protocol.NodeValue{Signing: k.Signing.Public(), Sealing: k.Sealing.Public()})
	w.must(err)
	r, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNode, Owner: id, Signer: w.opID(), Epoch: 1, Sequence: sequence,
		Issued: start.Add(-time.Minute), Expires: start.Add(life), Value: v,
	}, w.op.Signing)
	w.must(err)
	return id, r
}

func (w *world) identity(d protocol.Domain) endpoint.Identity {
	k := w.keys()
	id, rec := w.certify(d, k, 1, 30*24*time.Hour)
	return endpoint.Identity{ID: id, Keys: k, Record: rec, Trust: w.trust()}
}

func (w *world) operator() endpoint.Identity {
	return endpoint.Identity{ID: w.opID(), Keys: w.op, Record: w.opRec, Trust: w.trust()}
}

func (w *world) endpoint(cfg endpoint.Config) *endpoint.Endpoint {
	var seed [32]byte
	w.rand.Read(seed[:])
	cfg.Rand = rand.NewChaCha8(seed)
	e, err := endpoint.New(cfg)
	w.must(err)
	return e
}

// node starts a process with these identities.
func (w *world) node(cfg endpoint.Config, ids ...endpoint.Identity) *node {
	w.next++
	n := &node{w: w, addr: netip.MustParseAddrPort(fmt.Sprintf("10.%d.%d.1:7700", w.next/200, w.next%200)), ids: ids}
	n.restart(cfg)
	w.nodes[n.addr] = n
	return n
}

func (n *node) restart(cfg endpoint.Config) {
	n.e = n.w.endpoint(cfg)
	for _, id := range n.ids {
		n.w.must(n.e.AddIdentity(id))
	}
	n.out.Reset()
}

func (n *node) move(addr string) {
	delete(n.w.nodes, n.addr)
	n.addr = netip.MustParseAddrPort(addr)
	n.w.nodes[n.addr] = n
}

func (n *node) id() protocol.ID { return n.ids[0].ID }

func (n *node) peer() protocol.Peer { return n.peerOf(0) }

func (n *node) peerOf(i int) protocol.Peer {
	k := n.ids[i].Keys
	return protocol.Peer{ID: n.ids[i].ID, Signing: k.Signing.Public(), Sealing: k.Sealing.Public(), Addr: n.addr}
}

func (n *node) time() time.Time { return n.w.now.Add(n.skew) }

func (n *node) call(to protocol.Peer, p protocol.Payload) endpoint.CallID {
	n.w.t.Helper()
	return n.callFrom(n.id(), to, p)
}

func (n *node) callFrom(local protocol.ID, to protocol.Peer, p protocol.Payload) endpoint.CallID {
	n.w.t.Helper()
	b, err := protocol.AppendPayload(nil, p)
	n.w.must(err)
	id, err := n.e.Call(n.time(), local, to, p.Command(), b, 5*time.Second, &n.out)
	n.w.must(err)
	return id
}

// receive gives the node one datagram and does what its loop would do.
func (n *node) receive(from netip.AddrPort, b []byte) {
	var ev endpoint.Event
	n.e.Receive(n.time(), from, b, &ev, &n.out)
	for ok := true; ok; ok = n.e.More(n.time(), &ev, &n.out) {
		n.happened(ev)
	}
}

func (n *node) happened(ev endpoint.Event) {
	if ev.Kind == endpoint.EventNone {
		return
	}
	if ev.Kind == endpoint.EventRequest {
		if cmd, p, ok := n.answer(&ev.Verified); ok {
			if err := n.e.Reply(n.time(), &ev.Verified, cmd, p, &n.out); err != nil {
				n.w.t.Errorf("reply to %s: %v", ev.Verified.Command, err)
			}
		}
	}
	ev.Verified = *ev.Verified.Clone()
	n.events = append(n.events, ev)
}

func (n *node) answer(v *protocol.Verified) (protocol.Command, []byte, bool) {
	if n.handle != nil {
		return n.handle(v)
	}
	switch v.Command {
	case protocol.CmdPing:
		p := protocol.Pong{Time: n.time().UnixMilli(), Observed: protocol.AddrOf(v.From)}
		return protocol.CmdPong, p.AppendPayload(nil), true
	case protocol.CmdGetNode:
		return protocol.CmdNode, protocol.Node{Record: n.ids[0].Record}.AppendPayload(nil), true
	default:
		n := v.ReplyLimit
		for !v.Fits(protocol.CmdNodeInfo, n) && n > 0 {
			n--
		}
		return protocol.CmdNodeInfo, make([]byte, n), true
	}
}

// run carries datagrams until nothing moves.
func (w *world) run() {
	for moved := true; moved; {
		moved = false
		for _, n := range w.sorted() {
			packets := n.out.Packets()
			n.out = endpoint.Outbox{}
			for _, p := range packets {
				moved = true
				w.sent++
				if w.seen != nil && !w.seen(n.addr, p.Addr, p.Data) {
					continue
				}
				if to := w.nodes[p.Addr]; to != nil {
					to.receive(n.addr, bytes.Clone(p.Data))
				}
			}
		}
	}
}

func (w *world) sorted() (l []*node) {
	for _, n := range w.nodes {
		l = append(l, n)
	}
	for i := range l {
		for j := i; j > 0 && l[j].addr.Compare(l[j-1].addr) < 0; j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
	return l
}

// pass lets time go by in steps of 50 ms.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(50 * time.Millisecond)
		for _, n := range w.sorted() {
			n.events = n.e.Tick(n.time(), n.events, &n.out)
		}
		w.run()
	}
}

// outcome takes the call's event out.
func (n *node) outcome(id endpoint.CallID) *endpoint.Event {
	for i := range n.events {
		if ev := &n.events[i]; ev.Call == id && ev.Kind != endpoint.EventRequest {
			return ev
		}
	}
	return nil
}

func (n *node) requests() (c int) {
	for i := range n.events {
		if n.events[i].Kind == endpoint.EventRequest {
			c++
		}
	}
	return c
}

// mustAnswer runs the network and wants the answer at once, without a time-out.
func (n *node) mustAnswer(id endpoint.CallID, cmd protocol.Command) *protocol.Verified {
	n.w.t.Helper()
	n.w.run()
	ev := n.outcome(id)
	if ev == nil || ev.Kind != endpoint.EventCallDone || ev.Verified.Command != cmd {
		n.w.t.Fatalf("call ended with %+v; drops here %v", ev, nonzero(n.e))
	}
	return &ev.Verified
}

func nonzero(e *endpoint.Endpoint) map[string]uint64 {
	m := e.Stats()
	for k, v := range m {
		if v == 0 {
			delete(m, k)
		}
	}
	return m
}

func on() endpoint.Config { return endpoint.Config{Sessions: true} }

func (n *node) wantDrops(name string, c uint64) {
	n.w.t.Helper()
	if got := n.e.Stats()[name]; got != c {
		n.w.t.Errorf("%s counted %d times, want %d: %v", name, got, c, nonzero(n.e))
	}
}
