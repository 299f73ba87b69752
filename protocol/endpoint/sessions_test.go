package endpoint_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// record keeps every datagram of a type that goes to a node.
func (w *world) record(to *node, typ byte) *[][]byte {
	var l [][]byte
	prev := w.seen
	w.seen = func(from, dst netip.AddrPort, b []byte) bool {
		if dst == to.addr && b[0] == typ {
			l = append(l, bytes.Clone(b))
		}
		return prev == nil || prev(from, dst, b)
	}
	return &l
}

func pairOf(t testing.TB) (w *world, a, b *node) {
	w = newWorld(t)
	return w, w.node(on(), w.identity(7)), w.node(on(), w.identity(7))
}

// TestSessionLoss restarts a peer: the next call needs a hint and a new session, and no time-out.
func TestSessionLoss(t *testing.T) {
	w, a, b := pairOf(t)
	first := a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong).Session
	b.restart(on())
	w.now = w.now.Add(time.Second)
	v := a.mustAnswer(a.call(b.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
	if v.Session == first || v.Session == 0 {
		t.Errorf("answered in session %x after %x", v.Session, first)
	}
	b.wantDrops("unknown session", 1)
}

// TestSessionLossWithoutHints must find out by silence.
func TestSessionLossWithoutHints(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	b.restart(on())
	w.seen = func(_, _ netip.AddrPort, b []byte) bool { return b[0] != protocol.TypeHint }
	id := a.call(b.peer(), protocol.Ping{})
	w.pass(1200 * time.Millisecond)
	a.mustAnswer(id, protocol.CmdPong)
}

// TestForgedHints must not cost a session, and few handshakes.
func TestForgedHints(t *testing.T) {
	w, a, b := pairOf(t)
	sealed := w.record(b, protocol.TypeSealed)
	first := a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong).Session
	index, counter, err := protocol.ParseSealed((*sealed)[0])
	w.must(err)
	forged := [][]byte{
		protocol.AppendHint(nil, index+1, counter), protocol.AppendHint(nil, index, counter+1000), protocol.AppendHint(nil, index, 0),
		protocol.AppendHint(nil, 0, 1),
	}
	for _, f := range forged {
		a.receive(b.addr, f)
	}
	if n := len(a.out.Packets()); n != 0 {
		t.Errorf("%d datagrams for hints to nothing that was sent", n)
	}
	for range 1000 { // by one who saw the packet
		a.receive(b.addr, protocol.AppendHint(nil, index, counter))
	}
	if n := len(a.out.Packets()); n != 1 {
		t.Errorf("%d datagrams for 1,000 hints", n)
	}
	a.out.Reset()
	if v := a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong); v.Session != first {
		t.Error("the session was given up")
	}
}

// TestReplayedOpenSessionDisplacesNothing, not even at a responder that has lost its replay table but not yet its sessions.
func TestReplayedOpenSessionDisplacesNothing(t *testing.T) {
	w, a, b := pairOf(t)
	openings := w.record(b, protocol.TypeSigned)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	old := bytes.Clone((*openings)[0])
	b.restart(on())
	w.now = w.now.Add(time.Second)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	live := b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong).Session
	before := b.e.Sessions()
	for range 100 {
		b.receive(a.addr, bytes.Clone(old))
		b.receive(a.addr, bytes.Clone((*openings)[1]))
	}
	if n := len(b.out.Packets()); n != 0 || b.e.Sessions() != before {
		t.Errorf("%d answers to replays, %d sessions after %d", n, b.e.Sessions(), before)
	}
	if v := b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong); v.Session != live {
		t.Error("displaced")
	}
	// The same at a responder without any memory: it may answer, but sends on nothing that was never used.
	b.restart(on())
	b.receive(a.addr, bytes.Clone(old))
	b.out.Reset()
	sent := w.record(a, protocol.TypeSealed)
	b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong)
	for _, m := range *sent {
		if i, _, _ := protocol.ParseSealed(m); i == 0 {
			t.Error("sealed to nobody")
		}
	}
	a.wantDrops("unknown session", 0)
}

func TestRoaming(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	a.move("203.0.113.9:4242")
	sent := w.sent
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	if w.sent != sent+2 {
		t.Errorf("%d datagrams after the move", w.sent-sent)
	}
	addr, at, ok := b.e.Observed(b.id(), a.id())
	if !ok || addr != a.addr || !at.Equal(w.now) {
		t.Errorf("observed at %v, %v, %v", addr, at, ok)
	}
	to := a.peer()
	to.Addr = netip.AddrPort{}
	b.mustAnswer(b.call(to, protocol.Ping{}), protocol.CmdPong)
	to.Signing, to.Sealing = protocol.Key{}, protocol.Key{}
	b.mustAnswer(b.call(to, protocol.Ping{}), protocol.CmdPong)
	w.must(b.e.Send(w.now, b.id(), to, protocol.CmdForwardedTunnelRequest, []byte{0x90}, &b.out))
	w.run()
	if last := a.events[len(a.events)-1]; last.Verified.Command != protocol.CmdForwardedTunnelRequest || last.Verified.Session == 0 {
		t.Errorf("sent one way: %+v", last.Verified)
	}
}

// TestRoamingNeedsAnAuthenticPacket sends rubbish from elsewhere.
func TestRoamingNeedsAnAuthenticPacket(t *testing.T) {
	w, a, b := pairOf(t)
	sealed, signed := w.record(b, protocol.TypeSealed), w.record(b, protocol.TypeSigned)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	evil := netip.MustParseAddrPort("198.51.100.66:666")
	for _, m := range append(*sealed, *signed...) {
		b.receive(evil, bytes.Clone(m)) // replays
		for i := range m {
			c := bytes.Clone(m)
			c[i] ^= 4
			b.receive(evil, c)
		}
	}
	if addr, _, _ := b.e.Observed(b.id(), a.id()); addr != a.addr {
		t.Errorf("moved to %v", addr)
	}
}

func TestRekey(t *testing.T) {
	w := newWorld(t)
	cfg := endpoint.Config{Sessions: true, RekeyAfter: time.Minute}
	a, b := w.node(cfg, w.identity(7)), w.node(cfg, w.identity(7))
	sessions := make(map[uint64]bool)
	for range 300 {
		sessions[a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong).Session] = true
		w.now = w.now.Add(2 * time.Second)
	}
	if n := len(sessions); n < 9 || n > 11 {
		t.Errorf("%d sessions in ten minutes", n)
	}
	w.pass(20 * time.Second)
	if n := a.e.Sessions(); n > 2 {
		t.Errorf("%d sessions kept", n)
	}
	b.wantDrops("unknown session", 0)
}

func TestIdleSessionsAreCollected(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	for range 3 {
		w.now = w.now.Add(4 * time.Minute)
		w.pass(time.Second)
	}
	if a.e.Sessions() != 0 || b.e.Sessions() != 0 {
		t.Errorf("%d and %d sessions after twelve idle minutes", a.e.Sessions(), b.e.Sessions())
	}
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
}

// TestNextWhileIdle: an endpoint with little to look after does not want the time more than once a minute, and still collects it.
func TestNextWhileIdle(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	a.e.Tick(w.now, nil, &a.out)
	ticks, began := 0, w.now
	for w.now.Sub(began) < 12*time.Minute {
		next := a.e.Next()
		if !next.After(w.now) {
			t.Fatalf("after %s something is due %s ago", w.now.Sub(began), w.now.Sub(next))
		}
		w.now = next
		a.e.Tick(w.now, nil, &a.out)
		ticks++
	}
	if ticks > 13 || a.e.Sessions() != 0 {
		t.Errorf("%d ticks, %d sessions after twelve idle minutes", ticks, a.e.Sessions())
	}
}

// TestCallsAtOnce lets both sides open at the same moment.
func TestCallsAtOnce(t *testing.T) {
	w, a, b := pairOf(t)
	var as, bs []endpoint.CallID
	for range 10 {
		as = append(as, a.call(b.peer(), protocol.Ping{}))
		bs = append(bs, b.call(a.peer(), protocol.GetNodeInfo{}))
	}
	w.run()
	for i := range as {
		a.mustAnswer(as[i], protocol.CmdPong)
		b.mustAnswer(bs[i], protocol.CmdNodeInfo)
	}
	for range 5 {
		a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
		b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong)
	}
	if a.e.Sessions() > 2 || b.e.Sessions() > 2 {
		t.Errorf("%d and %d sessions", a.e.Sessions(), b.e.Sessions())
	}
}

// TestLoss loses, doubles and reorders datagrams, and restarts peers: every call ends with its answer.
func TestLoss(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t)
		rng := rand.New(rand.NewPCG(seed, 1))
		nodes := make([]*node, 4)
		for i := range nodes {
			nodes[i] = w.node(endpoint.Config{Sessions: i != 3}, w.identity(7))
		}
		w.seen = func(from, to netip.AddrPort, b []byte) bool {
			if rng.IntN(10) == 0 {
				w.nodes[to].receive(from, bytes.Clone(b))
			}
			return rng.IntN(8) != 0
		}
		type asked struct {
			n  *node
			id endpoint.CallID
		}
		var calls []asked
		for i := range 120 {
			a, b := nodes[rng.IntN(4)], nodes[rng.IntN(4)]
			if a == b {
				continue
			}
			if i%40 == 39 {
				b.restart(endpoint.Config{Sessions: b != nodes[3]})
				kept := calls[:0]
				for _, c := range calls {
					if c.n != b {
						kept = append(kept, c)
					}
				}
				calls = kept
			}
			pl, _ := protocol.AppendPayload(nil, protocol.Ping{})
			id, err := a.e.Call(a.time(), a.id(), b.peer(), protocol.CmdPing, pl, 20*time.Second, &a.out)
			w.must(err)
			calls = append(calls, asked{a, id})
			w.pass(100 * time.Millisecond)
		}
		w.pass(20 * time.Second)
		lost := 0
		for _, c := range calls {
			ev := c.n.outcome(c.id)
			if ev == nil {
				t.Fatal("a call never ended")
			}
			if ev.Kind != endpoint.EventCallDone {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("seed %d: %d of %d calls failed", seed, lost, len(calls))
		}
	}
}

func TestRetransmits(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		w := newWorld(t)
		a := w.node(endpoint.Config{Sessions: sessions}, w.identity(7))
		b := w.node(on(), w.identity(7))
		var at []time.Duration
		ids := make(map[uint64]bool)
		w.seen = func(_, _ netip.AddrPort, m []byte) bool {
			at = append(at, w.now.Sub(start))
			e, err := protocol.ParseEnvelope(m)
			w.must(err)
			ids[e.MessageID] = true
			return false
		}
		id := a.call(b.peer(), protocol.Ping{})
		w.run()
		w.pass(6 * time.Second)
		ev := a.outcome(id)
		if ev == nil || ev.Kind != endpoint.EventCallFailed || !errors.Is(ev.Err, endpoint.ErrTimeout) {
			t.Fatalf("ended with %+v", ev)
		}
		want := []time.Duration{0, 250, 750, 1750, 3750}
		if len(at) < len(want) || len(ids) != len(at) {
			t.Fatalf("sent at %v under %d IDs", at, len(ids))
		}
		for i, d := range want {
			if at[i] != d*time.Millisecond {
				t.Errorf("sessions %v: sent at %v", sessions, at)
				break
			}
		}
	}
}

// TestSecondAddress reaches by its second address a peer whose first is dead, while the session is still being opened there.
func TestSecondAddress(t *testing.T) {
	_, a, b := pairOf(t)
	dead := b.peer()
	dead.Addr = netip.MustParseAddrPort("192.0.2.99:1")
	a.call(dead, protocol.Ping{})
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
}

func TestCancel(t *testing.T) {
	w, a, b := pairOf(t)
	id := a.call(b.peer(), protocol.Ping{})
	a.e.Cancel(id)
	w.run()
	w.pass(6 * time.Second)
	if ev := a.outcome(id); ev != nil {
		t.Errorf("cancelled call ended with %+v", ev)
	}
}

// TestSend: a message that nobody waits for arrives too where its sender must first say who it is, and where the session was
// lost; and it leaves nothing behind.
func TestSend(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		w := newWorld(t)
		a := w.node(endpoint.Config{Sessions: sessions}, w.identity(7))
		b := w.node(on(), w.identity(7))
		send := func(want int) {
			t.Helper()
			before := b.requests()
			w.must(a.e.Send(w.now, a.id(), b.peer(), protocol.CmdForwardedTunnelRequest, []byte{0x90}, &a.out))
			w.run()
			if n := b.requests() - before; n != want {
				t.Errorf("sessions %v: %d messages arrived, want %d", sessions, n, want)
			}
		}
		send(1)
		send(1)
		a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
		send(1)
		b.restart(on())
		b.events = nil
		w.pass(4 * time.Second)
		send(1)
		w.pass(4 * time.Second)
		done := 0
		for _, ev := range a.events {
			if ev.Kind != endpoint.EventNone {
				done++
			}
		}
		if done != 1 {
			t.Errorf("%d events for one call", done)
		}
	}
}
