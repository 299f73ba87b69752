package endpoint_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// hot is a client and a server with one session, and their loops' reused memory.
type hot struct {
	w       *world
	a, b    *node
	reply   []byte
	ev      endpoint.Event
	out     endpoint.Outbox
	cmd     protocol.Command
	payload []byte
}

func newHot(t testing.TB, cmd protocol.Command, question, answer protocol.Payload) *hot {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	h := &hot{w: w, a: a, b: b, cmd: cmd}
	h.payload, _ = protocol.AppendPayload(nil, question)
	h.reply, _ = protocol.AppendPayload(nil, answer)
	return h
}

// ask makes a's next request; it is not part of what is measured.
func (h *hot) ask() []byte {
	h.a.out.Reset()
	id, err := h.a.e.Call(h.w.now, h.a.id(), h.b.peer(), h.cmd, h.payload, time.Second, &h.a.out)
	h.w.must(err)
	h.a.e.Cancel(id)
	return h.a.out.Packets()[0].Data
}

// serve is one turn of a server's loop: receive, handle, reply.
func (h *hot) serve(datagram []byte, answer protocol.Command) {
	h.out.Reset()
	h.b.e.Receive(h.w.now, h.a.addr, datagram, &h.ev, &h.out)
	if h.ev.Kind != endpoint.EventRequest {
		h.w.t.Fatalf("dropped: %v", nonzero(h.b.e))
	}
	if err := h.b.e.Reply(h.w.now, &h.ev.Verified, answer, h.reply, &h.out); err != nil {
		h.w.t.Fatal(err)
	}
	h.out.Packets()
}

func queries(t testing.TB) map[protocol.Command]*hot {
	rec := make([]byte, 400)
	return map[protocol.Command]*hot{
		protocol.CmdPong: newHot(t, protocol.CmdPing, protocol.Ping{}, protocol.Pong{Time: 1 << 40, Observed: protocol.AddrOf(netip.MustParseAddrPort("10.0.0.1:7700"))}),
		protocol.CmdNodeInfo: newHot(t, protocol.CmdGetNodeInfo, protocol.GetNodeInfo{},
			protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{rec}}}),
	}
}

func TestServingAllocatesNothing(t *testing.T) {
	for answer, h := range queries(t) {
		const n = 500
		requests := make([][]byte, 0, n+2)
		for range n + 2 {
			requests = append(requests, bytes.Clone(h.ask()))
		}
		i := 0
		if got := testing.AllocsPerRun(n, func() { h.serve(requests[i], answer); i++ }); got != 0 {
			t.Errorf("%s: %v allocations a request", answer, got)
		}
	}
}

func BenchmarkServe(b *testing.B) {
	for answer, h := range queries(b) {
		b.Run(h.cmd.String(), func(b *testing.B) {
			b.ReportAllocs()
			const batch = 1024
			requests := make([][]byte, batch)
			for i := 0; i < b.N; i += batch {
				b.StopTimer()
				for k := range requests {
					requests[k] = append(requests[k][:0], h.ask()...)
				}
				b.StartTimer()
				for k := range min(batch, b.N-i) {
					h.serve(requests[k], answer)
				}
			}
		})
	}
}

// BenchmarkReceiveSealed is what a server does with a question before its handler, in datagrams of one and of many.
func BenchmarkReceiveSealed(b *testing.B) {
	for _, each := range []int{1, 32} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			w, x, y := pairOf(b)
			x.mustAnswer(x.call(y.peer(), protocol.Ping{}), protocol.CmdPong)
			var ev endpoint.Event
			b.ReportAllocs()
			for i := 0; i < b.N; {
				b.StopTimer()
				x.out.Reset()
				var ids []endpoint.CallID
				for range 64 {
					for range each {
						ids = append(ids, x.call(y.peer(), protocol.Ping{}))
					}
					x.out.Packets()
				}
				l := x.out.Packets()
				b.StartTimer()
				for _, p := range l {
					y.e.Receive(w.now, x.addr, p.Data, &ev, &y.out)
					for ok := true; ok; ok = y.e.More(w.now, &ev, &y.out) {
						i++
					}
				}
				b.StopTimer()
				for _, id := range ids {
					x.e.Cancel(id)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkReply is an answer on its way to the packet, alone in it and with others.
func BenchmarkReply(b *testing.B) {
	for _, each := range []int{1, 32} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			h := queries(b)[protocol.CmdPong]
			h.serve(h.ask(), protocol.CmdPong)
			h.out.Reset()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := h.b.e.Reply(h.w.now, &h.ev.Verified, protocol.CmdPong, h.reply, &h.out); err != nil {
					b.Fatal(err)
				}
				if i%each == each-1 {
					h.out.Packets()
					h.out.Reset()
				}
			}
		})
	}
}

// BenchmarkRoundTrip is call, serve and completion: both ends.
func BenchmarkRoundTrip(b *testing.B) {
	for answer, h := range queries(b) {
		b.Run(h.cmd.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.a.out.Reset()
				id, err := h.a.e.Call(h.w.now, h.a.id(), h.b.peer(), h.cmd, h.payload, time.Second, &h.a.out)
				h.w.must(err)
				h.serve(h.a.out.Packets()[0].Data, answer)
				h.a.e.Receive(h.w.now, h.b.addr, h.out.Packets()[0].Data, &h.ev, &h.a.out)
				if h.ev.Kind != endpoint.EventCallDone || h.ev.Call != id {
					b.Fatal("not answered")
				}
			}
		})
	}
}

func BenchmarkSignedPing(b *testing.B) {
	w := newWorld(b)
	x, y := w.node(endpoint.Config{}, w.identity(7)), w.node(endpoint.Config{Limits: endpoint.Limits{PublicKeyRate: 1e9}}, w.identity(7))
	x.mustAnswer(x.call(y.peer(), protocol.Ping{}), protocol.CmdPong)
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Millisecond)
		x.call(y.peer(), protocol.Ping{})
		w.run()
		x.events, y.events = nil, nil
	}
}

func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b)
	cfg := endpoint.Config{Sessions: true, RekeyAfter: time.Nanosecond}
	cfg.Limits.PublicKeyRate, cfg.Limits.Handshakes = 1e9, endpoint.Rate{PerSecond: 1e9, Burst: 1e9}
	x, y := w.node(cfg, w.identity(7)), w.node(cfg, w.identity(7))
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(time.Second)
		x.call(y.peer(), protocol.Ping{})
		w.run()
		x.events, y.events = nil, nil
	}
}

// BenchmarkFlood is the price of one datagram that should not have come.
func BenchmarkFlood(b *testing.B) {
	w, x, y := pairOf(b)
	bogus := w.signed(w.identity(9), y.ids[0], protocol.CmdPing, false, w.now, 1, nil)
	badMAC := bytes.Clone(bogus)
	badMAC[150]++
	x.mustAnswer(x.call(y.peer(), protocol.Ping{}), protocol.CmdPong)
	sealed := make([]byte, 200)
	sealed[0], sealed[1] = protocol.TypeSealed, 1
	for name, m := range map[string][]byte{"mac1 wrong": badMAC, "stranger": bogus, "no session": sealed} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.out.Reset()
				y.e.Receive(w.now, x.addr, m, &y.events[0], &x.out)
			}
		})
	}
}

// TestConcurrentUse lets many goroutines use one endpoint as a node's readers, workers and callers do.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	b := w.node(on(), w.identity(7), w.identity(8))
	var wg sync.WaitGroup
	for g := range 6 {
		a := w.node(endpoint.Config{Sessions: g != 5}, w.identity(protocol.Domain(7+g%2)))
		to := b.peerOf(g % 2)
		wg.Go(func() {
			var ev endpoint.Event
			var out, back endpoint.Outbox
			now := start
			for i := range 150 {
				out.Reset()
				id, err := a.e.Call(now, a.id(), to, protocol.CmdPing, []byte{0x90}, time.Second, &out)
				if err != nil {
					t.Error(err)
					return
				}
				if !converse(a, b, now, id, &ev, &out, &back) {
					t.Errorf("caller %d: call %d not answered: %v %v", g, i, nonzero(a.e), nonzero(b.e))
					return
				}
				now = now.Add(10 * time.Millisecond)
				b.e.Tick(now, nil, &back)
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			b.e.Stats()
			b.e.Recheck()
			b.e.Observed(b.id(), b.id())
			w2 := b.ids[1]
			if err := b.e.AddIdentity(w2); err != nil {
				t.Error(err)
			}
			runtime.Gosched()
		}
	})
	wg.Wait()
}

// converse carries datagrams between two nodes until the call is answered.
func converse(a, b *node, now time.Time, id endpoint.CallID, ev *endpoint.Event, out, back *endpoint.Outbox) bool {
	for range 10 {
		back.Reset()
		for _, p := range out.Packets() {
			b.e.Receive(now, a.addr, bytes.Clone(p.Data), ev, back)
			if ev.Kind == endpoint.EventRequest {
				if err := b.e.Reply(now, &ev.Verified, protocol.CmdPong, protocol.Pong{}.AppendPayload(nil), back); err != nil {
					return false
				}
			}
		}
		out.Reset()
		for _, p := range back.Packets() {
			a.e.Receive(now, b.addr, bytes.Clone(p.Data), ev, out)
			if ev.Kind == endpoint.EventCallDone && ev.Call == id {
				return true
			}
		}
	}
	return false
}

// FuzzEndpointReceive gives any datagram to an endpoint that has sessions, calls under way and known peers.
func FuzzEndpointReceive(f *testing.F) {
	w, a, b := pairOf(f)
	w.seen = func(_, _ netip.AddrPort, m []byte) bool { f.Add(bytes.Clone(m)); return true }
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	for _, m := range w.corpus(w.identity(7), w.identity(8), w.identity(9), b.ids[0])[:60] {
		f.Add(m)
	}
	w.seen = nil
	b.call(a.peer(), protocol.Ping{})
	b.out.Reset()
	from := netip.MustParseAddrPort("198.51.100.1:53")
	var ev endpoint.Event
	f.Fuzz(func(t *testing.T, m []byte) {
		for _, fit := range []bool{false, true} {
			x := bytes.Clone(m)
			if fit && len(x) >= protocol.MinSigned && x[0] == protocol.TypeSigned {
				id := b.id()
				copy(x[4:], id[:])
				remac(x, id)
			}
			b.out.Reset()
			b.e.Receive(w.now, from, x, &ev, &b.out)
			n := 0
			for _, p := range b.out.Packets() {
				n += len(p.Data)
			}
			if n > len(m) {
				t.Errorf("%d bytes for %d", n, len(m))
			}
		}
	})
}

// TestReceiveAllocates little for what it drops: less than four times the datagram, and what one answer takes.
func TestReceiveAllocatesLittle(t *testing.T) {
	w := newWorld(t)
	known := w.identity(7)
	cfg := on()
	cfg.Limits.PublicKeyRate = 1e9
	b := w.node(cfg, w.identity(7))
	var ev endpoint.Event
	from := netip.MustParseAddrPort("198.51.100.1:53")
	buf := make([]byte, 2000)
	for _, m := range w.corpus(known, w.identity(8), w.identity(9), b.ids[0]) {
		if m[0] == protocol.TypeSigned && len(m) > 2 && m[2] == byte(protocol.CmdOpenSession) {
			continue // certificates cost what signatures cost: the load limit bounds them
		}
		b.receive(from, bytes.Clone(m))
		b.out.Reset()
		got := 1 << 30 // the least of some: a pool may have to start anew
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.out.Reset()
			b.e.Receive(w.now, from, buf[:copy(buf, m)], &ev, &b.out)
			runtime.ReadMemStats(&after)
			got = min(got, int(after.TotalAlloc-before.TotalAlloc))
		}
		if got > 4*len(m)+1024 {
			t.Errorf("%x… of %d bytes: %d allocated", m[:min(4, len(m))], len(m), got)
		}
	}
}
