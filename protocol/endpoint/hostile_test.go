package endpoint_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

// signed makes any signed message from one identity to another.
func (w *world) signed(from, to endpoint.Identity, cmd protocol.Command, reply bool, at time.Time, id uint64, payload []byte) []byte {
	b, err := protocol.AppendSigned(nil, &protocol.Outgoing{
		Sender: from.ID, Receiver: to.ID, Sealing: to.Keys.Sealing.Public(), Command: cmd, Reply: reply, Timestamp: at,
		MessageID: id, Payload: payload,
	}, from.Keys.Signing, w.rand)
	w.must(err)
	return b
}

func opening(from endpoint.Identity, ephemeral key.Public, index uint64) []byte {
	return protocol.OpenSession{Ephemeral: ephemeral, Index: index, Node: from.Record}.AppendPayload(nil)
}

// corpus is every kind of datagram that an attacker may send to b: signed by a node that b knows, by a certified stranger, and
// by one with no certificate; fresh and stale; questions and answers; and the other types with any content.
func (w *world) corpus(known, stranger, nobody, b endpoint.Identity) (l [][]byte) {
	id := uint64(1000)
	for _, from := range []endpoint.Identity{known, stranger, nobody} {
		for c := protocol.Command(1); c < protocol.CmdEnd; c++ {
			for _, at := range []time.Time{w.now, w.now.Add(-time.Hour), w.now.Add(240 * time.Hour)} {
				for _, reply := range []bool{false, true} {
					id++
					p := []byte{0x90}
					switch c {
					case protocol.CmdOpenSession:
						p = opening(from, w.keys().Sealing.Public(), id)
					case protocol.CmdNode:
						p = protocol.Node{Record: from.Record}.AppendPayload(nil)
					case protocol.CmdPong:
						p = protocol.Pong{Time: 1}.AppendPayload(nil)
					}
					l = append(l, w.signed(from, b, c, reply, at, id, p))
				}
			}
		}
	}
	for t := range byte(16) {
		for _, n := range []int{1, 4, 20, 46, 68, 276, 1200} {
			x := make([]byte, n)
			w.rand.Read(x)
			x[0] = t
			if n > 3 {
				x[1], x[2], x[3] = 1, 0, 0
			}
			l = append(l, x)
		}
	}
	return l
}

// TestReflection spoofs a victim's address on every kind of datagram, idle and under load: no answer is longer than what it
// answers, and there is at most one.
func TestReflection(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		for _, rate := range []float64{0, 0.001} {
			w := newWorld(t)
			known, stranger, nobody := w.identity(7), w.identity(8), w.identity(9)
			cfg := endpoint.Config{Sessions: sessions, Limits: endpoint.Limits{PublicKeyRate: rate}}
			cfg.Limits.StalePongs = endpoint.Rate{PerSecond: 1e6, Burst: 1e6}
			cfg.Limits.GetNodes = cfg.Limits.StalePongs
			cfg.Lookup = func(id protocol.ID) ([]byte, bool) { return known.Record, id == known.ID }
			b := w.node(cfg, w.identity(7))
			victim := netip.MustParseAddrPort("198.51.100.1:53")
			answers := 0
			for _, x := range w.corpus(known, stranger, nobody, b.ids[0]) {
				b.receive(victim, bytes.Clone(x))
				out := 0
				for _, p := range b.out.Packets() {
					out += len(p.Data)
					if p.Addr != victim {
						t.Errorf("answer to %v", p.Addr)
					}
				}
				if out > len(x) || len(b.out.Packets()) > 1 {
					t.Errorf("%d bytes in %d datagrams for %d of type %d command %d", out, len(b.out.Packets()), len(x), x[0], x[2])
				}
				answers += len(b.out.Packets())
				b.out.Reset()
			}
			if answers < 50 {
				t.Errorf("only %d answers: the test tests little", answers)
			}
		}
	}
}

// TestLoopsDie spoofs one node's address towards another with every kind of datagram: one datagram may come of it, no more.
func TestLoopsDie(t *testing.T) {
	w, a, b := pairOf(t)
	known, stranger, nobody := w.identity(7), w.identity(8), w.identity(9)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	for _, from := range []endpoint.Identity{known, a.ids[0]} {
		for _, x := range w.corpus(from, stranger, nobody, b.ids[0]) {
			w.sent = 0
			b.receive(a.addr, bytes.Clone(x))
			w.run()
			if w.sent > 1 {
				t.Errorf("%d datagrams after one of type %d command %d", w.sent, x[0], x[2])
			}
			w.sent = 0
			b.receive(b.addr, bytes.Clone(x)) // from itself
			w.run()
			if w.sent > 1 {
				t.Errorf("%d datagrams to itself after one of type %d command %d", w.sent, x[0], x[2])
			}
		}
	}
}

// TestMillionReplays replays signed and sealed messages a million times: nothing comes of it.
func TestMillionReplays(t *testing.T) {
	w := newWorld(t)
	a := w.node(endpoint.Config{}, w.identity(7))
	c, b := w.node(on(), w.identity(7)), w.node(on(), w.identity(7))
	signed, sealed := w.record(b, protocol.TypeSigned), w.record(b, protocol.TypeSealed)
	for range 3 {
		a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
		c.mustAnswer(c.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	}
	var ev endpoint.Event
	var buf [protocol.MaxDatagram]byte
	replays := 0
	before := b.e.Stats()
	for replays < 1_000_000 {
		for _, m := range *sealed {
			for range 20 {
				b.e.Receive(w.now, a.addr, buf[:copy(buf[:], m)], &ev, &b.out)
				replays++
			}
		}
		m := (*signed)[replays%len(*signed)]
		b.e.Receive(w.now, a.addr, buf[:copy(buf[:], m)], &ev, &b.out)
		if replays++; ev.Kind != endpoint.EventNone || len(b.out.Packets()) > 0 {
			t.Fatalf("replay %d: %v, %d datagrams", replays, ev.Kind, len(b.out.Packets()))
		}
	}
	after := b.e.Stats()
	counted := after["replayed"] + after["window"] + after["unsolicited"] - before["replayed"] - before["window"] - before["unsolicited"]
	if counted != uint64(replays) {
		t.Errorf("%d replays counted of %d: %v", counted, replays, nonzero(b.e))
	}
}

// TestTampering changes each byte of each datagram of a whole conversation on its way: no request is taken from it, no answer.
func TestTampering(t *testing.T) {
	w, a, b := pairOf(t)
	plain := w.node(endpoint.Config{}, w.identity(7))
	w.seen = func(from, to netip.AddrPort, m []byte) bool {
		n := w.nodes[to]
		events := len(n.events)
		for i := range m {
			c := bytes.Clone(m)
			c[i] ^= 1 << (i % 8)
			if m[0] == protocol.TypeSigned && i >= len(m)-16 {
				continue // mac2 counts under load only
			}
			if m[0] == protocol.TypeSigned && m[2] == byte(protocol.CmdOpenSession) && i%7 != 0 {
				continue // long: a sample is enough
			}
			n.receive(from, c)
		}
		if len(n.events) != events {
			t.Errorf("%d events from tampered datagrams of type %d", len(n.events)-events, m[0])
		}
		return true
	}
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	plain.mustAnswer(plain.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	a.mustAnswer(a.call(plain.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
}

func TestRefusedAndCounted(t *testing.T) {
	w := newWorld(t)
	a, foreign := w.identity(7), w.identity(8)
	id := w.identity(7)
	revoked := w.identity(7)
	id.Revoked = func(x protocol.ID) bool { return x == revoked.ID }
	id.Admit = func(c *protocol.CertifiedNode) bool { return c.ID.Domain() == 7 }
	known := map[protocol.ID][]byte{a.ID: a.Record, foreign.ID: foreign.Record, revoked.ID: revoked.Record}
	expiredKeys := w.keys()
	expiredID, expiredRec := w.certify(7, expiredKeys, 1, -time.Second)
	expired := endpoint.Identity{ID: expiredID, Keys: expiredKeys, Record: expiredRec}
	known[expiredID] = expiredRec
	cfg := on()
	cfg.Lookup = func(x protocol.ID) ([]byte, bool) { r, ok := known[x]; return r, ok }
	b := w.node(cfg, id)
	ping := func(from endpoint.Identity, at time.Time) []byte {
		return w.signed(from, id, protocol.CmdPing, false, at, 1, []byte{0x90})
	}
	version := ping(a, w.now)
	version[1] = 2
	var low key.Public
	lies := a
	lies.Keys = w.keys()
	otherOperator := newWorld(t)
	otherOperator.rand.Seed([32]byte{9})
	otherOperator.op = otherOperator.keys()
	impostor := otherOperator.identity(7)
	sealedToAnother := id
	sealedToAnother.Keys = w.keys()
	cases := []struct {
		reason string
		b      []byte
	}{
		{"malformed", nil}, {"malformed", []byte{4}}, {"malformed", []byte{9, 1, 1, 1}}, {"version", version},
		{"oversized", append(ping(a, w.now), make([]byte, 1000)...)},
		{"misaddressed", w.signed(a, foreign, protocol.CmdPing, false, w.now, 1, nil)},
		{"mac1", func() []byte { x := ping(a, w.now); x[100]++; return x }()},
		{"revoked", ping(revoked, w.now)}, {"foreign", ping(foreign, w.now)}, {"signature", ping(lies, w.now)},
		{"unknown sender", ping(expired, w.now)}, {"unknown sender", ping(w.identity(7), w.now)},
		{"stale", ping(a, w.now.Add(-3*time.Minute))}, {"stale", ping(a, w.now.Add(3*time.Minute))},
		{"certificate", w.signed(impostor, id, protocol.CmdOpenSession, false, w.now, 1, opening(impostor, low, 5))},
		{"certificate", w.signed(expired, id, protocol.CmdOpenSession, false, w.now, 1, opening(expired, low, 5))},
		{"certificate", w.signed(a, id, protocol.CmdOpenSession, false, w.now, 2, opening(foreign, low, 5))},
		{"payload", w.signed(a, id, protocol.CmdOpenSession, false, w.now, 3, opening(a, low, 5))}, // small order
		{"malformed", w.signed(a, id, protocol.CmdOpenSession, false, w.now, 4, opening(a, w.keys().Sealing.Public(), 0))},
		{"payload", w.signed(a, id, protocol.CmdOpenSession, false, w.now, 5, []byte{0x90})},
		{"payload", w.signed(a, sealedToAnother, protocol.CmdPing, false, w.now, 6, []byte{0x90})},
		{"unsolicited", w.signed(a, id, protocol.CmdPong, true, w.now, 7, []byte{0x90})},
		{"unsolicited", w.signed(a, id, protocol.CmdNode, true, w.now, 8, protocol.Node{Record: a.Record}.AppendPayload(nil))},
		{"malformed", w.signed(a, id, protocol.CmdSessionOpened, false, w.now, 9, []byte{0x90})},
		{"unsolicited", protocol.AppendHint(nil, 1, 1)}, {"unsolicited", append([]byte{6, 1, 0, 0}, make([]byte, 64)...)},
	}
	for i, tc := range cases {
		before := b.e.Stats()
		b.receive(netip.MustParseAddrPort("10.9.9.9:1"), bytes.Clone(tc.b))
		after := b.e.Stats()
		total := uint64(0)
		for k := range after {
			total += after[k] - before[k]
		}
		if after[tc.reason] != before[tc.reason]+1 || total != 1 {
			t.Errorf("case %d: %s not counted, but %v", i, tc.reason, nonzero(b.e))
		}
	}
	if b.requests() != 0 || b.e.Sessions() != 0 {
		t.Errorf("%d requests, %d sessions", b.requests(), b.e.Sessions())
	}
	b.receive(netip.MustParseAddrPort("10.9.9.9:1"), ping(a, w.now))
	if b.requests() != 1 {
		t.Error("the good one was not taken")
	}
}

// TestNeedsSignature sends in a session what is only accepted signed.
func TestNeedsSignature(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	signed := w.record(b, protocol.TypeSigned)
	id := a.call(b.peer(), protocol.TransferPartition{Epoch: 4})
	w.run()
	if ev := a.outcome(id); ev == nil || ev.Verified.Session != 0 || len(*signed) != 1 {
		t.Errorf("went as %+v", ev)
	}
}
