package node

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/dht/storetest"
	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// desk is a node as far as its socket loop goes, and one that has a session with it.
type desk struct {
	t        testing.TB
	n        *Node
	asker    *endpoint.Endpoint
	from, at netip.AddrPort
	id       protocol.ID
	peer     protocol.Peer
	ev       endpoint.Event
	out      endpoint.Outbox
}

func newDesk(t testing.TB) *desk {
	w := storetest.NewWorld(t)
	client, super := w.Node(7, "client"), w.Node(7, "super")
	open := func(n *storetest.Node) *endpoint.Endpoint {
		e, err := endpoint.New(endpoint.Config{Rand: rand.Reader, Sessions: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddIdentity(endpoint.Identity{ID: n.ID, Keys: n.Keys, Record: n.Record, Trust: w.Trust}); err != nil {
			t.Fatal(err)
		}
		return e
	}
	d := &desk{
		t: t, asker: open(client), id: client.ID,
		from: netip.MustParseAddrPort("192.0.2.1:7700"), at: netip.MustParseAddrPort("192.0.2.2:7700"),
	}
	d.peer = protocol.Peer{ID: super.ID, Signing: super.Keys.Signing.Public(), Sealing: super.Keys.Sealing.Public(), Addr: d.at}
	d.n = &Node{
		cfg: Config{Now: func() time.Time { return storetest.Start }}, log: slog.New(slog.DiscardHandler), ep: open(super),
		tasks: newTasks(t.Context()),
	}
	d.n.pool = newPool(d.n.tasks)
	t.Cleanup(func() { d.n.tasks.cancel(); _ = d.n.tasks.stop() })
	d.n.handle()
	server, err := dht.NewServer(dht.Config{Self: super.ID, Store: memstore.New(), Trust: w.Trust, RootKey: w.Root.Signing.Public()}, storetest.Start)
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{id: super.ID, server: server}
	answer := bytes.Repeat([]byte{7}, 500)
	s.routes.add(memory{answer}, always)
	d.n.serving.Store(s)
	d.ev.Verified.Scratch = new(protocol.Scratch)
	for range 3 { // opens the session, both ways
		for _, m := range d.ask(protocol.CmdPing, 1) {
			d.serve(m)
		}
		for _, p := range d.out.Packets() {
			var ev endpoint.Event
			var out endpoint.Outbox
			d.asker.Receive(storetest.Start, d.at, p.Data, &ev, &out)
			for _, q := range out.Packets() {
				d.out.Reset()
				d.serve(q.Data)
			}
		}
	}
	return d
}

// memory answers lookups from memory.
type memory struct{ answer []byte }

func (m memory) Handlers() map[protocol.Command]protocol.Handler {
	return map[protocol.Command]protocol.Handler{
		protocol.CmdGetNode: func(_ time.Time, v *protocol.Verified) []protocol.Out {
			return v.Answer(protocol.CmdNode, append(v.Room(len(m.answer)), m.answer...))
		},
	}
}

// ask is the datagrams of so many questions that leave together.
func (d *desk) ask(c protocol.Command, questions int) (l [][]byte) {
	d.t.Helper()
	var out endpoint.Outbox
	for range questions {
		if _, err := d.asker.Call(storetest.Start, d.id, d.peer, c, []byte{0x90}, time.Minute, &out); err != nil {
			d.t.Fatal(err)
		}
	}
	for _, p := range out.Packets() {
		l = append(l, bytes.Clone(p.Data))
	}
	return l
}

// serve is what the socket loop does with a datagram.
func (d *desk) serve(m []byte) {
	d.out.Reset()
	d.n.ep.Receive(storetest.Start, d.from, m, &d.ev, &d.out)
	d.n.received(storetest.Start, &d.ev, &d.out)
}

// From a sealed query to the packet with its answer nothing is allocated: not for one alone, nor for a datagram full of them.
func TestQueriesAllocateNothing(t *testing.T) {
	d := newDesk(t)
	for _, c := range []protocol.Command{protocol.CmdPing, protocol.CmdGetNode} {
		for _, questions := range []int{1, 5} {
			const runs = 200
			var datagrams [][]byte
			for range runs + 1 {
				l := d.ask(c, questions)
				if len(l) != 1 {
					t.Fatalf("%d datagrams for %d questions", len(l), questions)
				}
				datagrams = append(datagrams, l[0])
			}
			d.serve(d.ask(c, 2*questions)[0]) // the outbox has its size
			i, answers := 0, 0
			got := testing.AllocsPerRun(runs, func() {
				d.serve(datagrams[i])
				answers += len(d.out.Packets())
				i++
			})
			if got != 0 {
				t.Errorf("%d × %s in a datagram: %v allocations", questions, c, got)
			}
			if want := map[protocol.Command]int{protocol.CmdPing: 1, protocol.CmdGetNode: (questions + 1) / 2}[c]; answers != want*(runs+1) {
				t.Errorf("%d × %s in a datagram: %d datagrams of answers, want %d each", questions, c, answers, want)
			}
		}
	}
}

// answers is what the node's answers to a datagram are.
func (d *desk) answers(m []byte) (l []protocol.Command) {
	d.serve(m)
	var ev endpoint.Event
	var out endpoint.Outbox
	for _, p := range d.out.Packets() {
		d.asker.Receive(storetest.Start, d.at, p.Data, &ev, &out)
		for ok := true; ok; ok = d.asker.More(storetest.Start, &ev, &out) {
			if ev.Kind == endpoint.EventCallDone {
				l = append(l, ev.Verified.Command)
			}
		}
	}
	return l
}

// When everything is full, what is answered from memory still is; what would wait is refused, and what anybody may ask dropped.
func TestShedding(t *testing.T) {
	d := newDesk(t)
	release := make(chan struct{})
	defer close(release)
	for d.n.pool.Try(7, func() { <-release }) {
	}
	d.n.press(true)
	mixed := append(append(d.ask(protocol.CmdProbeReach, 2), d.ask(protocol.CmdPing, 3)...), d.ask(protocol.CmdGetNode, 1)...)
	var got []protocol.Command
	for _, m := range mixed {
		got = append(got, d.answers(m)...)
	}
	want := []protocol.Command{
		protocol.CmdBusy, protocol.CmdBusy, protocol.CmdPong, protocol.CmdPong, protocol.CmdPong, protocol.CmdNode,
	}
	if !slices.Equal(got, want) {
		t.Errorf("answers %v, want %v", got, want)
	}
	var out endpoint.Outbox
	d.n.answerSTUN(storetest.Start, d.from, []byte{0, 1}, &out)
	if c := d.n.drops.snapshot(); out.Len() != 0 || c["STUN under load"] != 1 || c["busy"] != 2 {
		t.Errorf("%d answers, %v", out.Len(), c)
	}
}

func BenchmarkDispatch(b *testing.B) {
	d := newDesk(b)
	for _, c := range []protocol.Command{protocol.CmdPing, protocol.CmdGetNode} {
		b.Run(c.String(), func(b *testing.B) {
			b.ReportAllocs()
			l := make([][]byte, 1024)
			for i := 0; i < b.N; i += len(l) {
				b.StopTimer()
				for k := range l {
					l[k] = d.ask(c, 1)[0]
				}
				b.StartTimer()
				for k := range min(len(l), b.N-i) {
					d.serve(l[k])
					d.out.Packets()
				}
			}
		})
	}
}
