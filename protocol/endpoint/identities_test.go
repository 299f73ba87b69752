package endpoint_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// TestHundredIdentities runs one process in a hundred domains against one in as many: each pair has its own session, and what
// one identity knows, or is told, another does not.
func TestHundredIdentities(t *testing.T) {
	w := newWorld(t)
	var as, bs []endpoint.Identity
	for d := range protocol.Domain(100) {
		as, bs = append(as, w.identity(d+1)), append(bs, w.identity(d+1))
	}
	a, b := w.node(on(), as...), w.node(on(), bs...)
	if n := len(b.e.Identities()); n != 100 {
		t.Fatalf("%d identities", n)
	}
	sessions := make(map[uint64]int)
	for i := range as {
		id := a.callFrom(as[i].ID, b.peerOf(i), protocol.Ping{})
		v := a.mustAnswer(id, protocol.CmdPong)
		if v.Receiver != as[i].ID || v.Sender != bs[i].ID {
			t.Fatalf("%s answered %s", v.Sender, v.Receiver)
		}
		sessions[v.Session]++
		for j := range bs {
			if _, _, ok := b.e.Observed(bs[j].ID, as[i].ID); ok != (j == i) {
				t.Fatalf("identity %d observed peer %d: %v", j, i, ok)
			}
			if i != j && i%10 == 0 {
				to := protocol.Peer{ID: as[i].ID}
				if err := b.e.Send(w.now, bs[j].ID, to, protocol.CmdPing, nil, &b.out); !errors.Is(err, endpoint.ErrPeer) {
					t.Fatalf("identity %d knows the keys of peer %d: %v", j, i, err)
				}
			}
		}
	}
	if len(sessions) != 100 || a.e.Sessions() != 100 {
		t.Errorf("%d sessions", len(sessions))
	}
	b.e.RemoveIdentity(bs[0].ID)
	if b.e.Sessions() != 99 {
		t.Errorf("%d sessions left", b.e.Sessions())
	}
	if _, err := b.e.Call(w.now, bs[0].ID, a.peerOf(0), protocol.CmdPing, nil, time.Second, &b.out); !errors.Is(err, endpoint.ErrIdentity) {
		t.Errorf("call of a removed identity: %v", err)
	}
	a.mustAnswer(a.callFrom(as[1].ID, b.peerOf(1), protocol.Ping{}), protocol.CmdPong)
}

// TestAnswerToAnotherIdentity: a reply to the right message ID from the wrong peer, or for the wrong identity, is no answer.
func TestAnswerToAnotherIdentity(t *testing.T) {
	w := newWorld(t)
	one, two := w.identity(7), w.identity(8)
	a := w.node(endpoint.Config{}, one, two)
	b, c := w.node(endpoint.Config{}, w.identity(7)), w.identity(7)
	w.seen = func(netip.AddrPort, netip.AddrPort, []byte) bool { return false }
	id := a.call(b.peer(), protocol.Ping{})
	pong := protocol.Pong{Time: 1}.AppendPayload(nil)
	for _, m := range [][]byte{
		w.signed(c, one, protocol.CmdPong, true, w.now, uint64(id), pong),
		w.signed(b.ids[0], two, protocol.CmdPong, true, w.now, uint64(id), pong),
		w.signed(b.ids[0], one, protocol.CmdPong, true, w.now, uint64(id)+16, pong),
		w.signed(b.ids[0], one, protocol.CmdPong, false, w.now, uint64(id), pong),
	} {
		a.receive(b.addr, m)
		if ev := a.outcome(id); ev != nil {
			t.Fatalf("answered by %+v", ev.Verified)
		}
	}
	a.receive(b.addr, w.signed(b.ids[0], one, protocol.CmdPong, true, w.now, uint64(id), pong))
	if a.outcome(id) == nil {
		t.Error("the true answer was not taken")
	}
	a.events = nil
	a.receive(b.addr, w.signed(b.ids[0], one, protocol.CmdPong, true, w.now, uint64(id), pong))
	if a.outcome(id) != nil {
		t.Error("answered twice")
	}
}

func TestRevokedPeer(t *testing.T) {
	w := newWorld(t)
	revoked := make(map[protocol.ID]bool)
	id := w.identity(7)
	id.Revoked = func(x protocol.ID) bool { return revoked[x] }
	a, c, b := w.node(on(), w.identity(7)), w.node(on(), w.identity(7)), w.node(on(), id)
	for _, n := range []*node{a, c} {
		n.mustAnswer(n.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	}
	pending := b.call(a.peer(), protocol.Ping{})
	b.out.Reset()
	revoked[a.id()] = true
	b.e.ForgetPeer(a.id())
	if b.e.Sessions() != 1 {
		t.Errorf("%d sessions left", b.e.Sessions())
	}
	w.pass(100 * time.Millisecond)
	if ev := b.outcome(pending); ev == nil || !errors.Is(ev.Err, endpoint.ErrRevoked) {
		t.Errorf("call under way ended with %+v", ev)
	}
	asked := b.requests()
	dead := a.call(b.peer(), protocol.Ping{})
	w.run()
	w.pass(6 * time.Second)
	if ev := a.outcome(dead); ev == nil || ev.Kind != endpoint.EventCallFailed || b.requests() != asked {
		t.Errorf("revoked peer was answered: %+v", ev)
	}
	if _, err := b.e.Call(w.now, b.id(), a.peer(), protocol.CmdPing, nil, time.Second, &b.out); !errors.Is(err, endpoint.ErrRevoked) {
		t.Errorf("call to it: %v", err)
	}
	c.mustAnswer(c.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	revoked[c.id()] = true
	b.e.Recheck()
	if b.e.Sessions() != 0 {
		t.Errorf("%d sessions after Recheck", b.e.Sessions())
	}
}

// TestCertificateEnds: with the certificate the session ends, also under a clock that was right all the time; a renewed one
// carries on without an outage.
func TestCertificateEnds(t *testing.T) {
	w := newWorld(t)
	short := w.identity(7)
	_, short.Record = w.certify(7, short.Keys, 1, time.Minute)
	a, b := w.node(on(), short), w.node(on(), w.identity(7))
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	renewed := short
	_, renewed.Record = w.certify(7, short.Keys, 2, time.Hour)
	w.now = w.now.Add(30 * time.Second)
	w.must(a.e.AddIdentity(renewed))
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong) // on the old session, opening the new beside it
	w.now = w.now.Add(time.Minute)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	if got := b.events[len(b.events)-1].Verified.Node.Record; !bytes.Equal(got, renewed.Record) {
		t.Error("the peer still sees the old certificate")
	}
	asked := b.requests()
	w.now = w.now.Add(2 * time.Hour)
	a.call(b.peer(), protocol.Ping{})
	w.run()
	if b.requests() != asked {
		t.Error("served past the certificate's end")
	}
	b.wantDrops("certificate", 1)
}

// TestStrangerIsIntroducedOnce and asked again only when forgotten.
func TestStrangerIsIntroduced(t *testing.T) {
	w := newWorld(t)
	a, b := w.node(endpoint.Config{}, w.identity(7)), w.node(endpoint.Config{}, w.identity(7))
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	if w.sent != 5 { // Ping, GetNode, Node, Ping, Pong
		t.Errorf("%d datagrams at first sight", w.sent)
	}
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	if w.sent != 7 {
		t.Errorf("%d datagrams in all", w.sent)
	}
	// A GetNode for a message that was never sent, or of another node, is ignored.
	get := protocol.GetNode{ID: a.id()}.AppendPayload(nil)
	a.receive(b.addr, w.signed(b.ids[0], a.ids[0], protocol.CmdGetNode, true, w.now, 77, get))
	a.wantDrops("unsolicited", 1)
	if len(a.out.Packets()) != 0 {
		t.Error("answered")
	}
}

func TestDetached(t *testing.T) {
	w := newWorld(t)
	a, b, relay := w.node(on(), w.identity(7)), w.node(on(), w.identity(7)), w.node(on(), w.identity(9))
	join, err := protocol.Marshal(protocol.RelayJoin{Token: protocol.Hash{1}, Peer: b.id(), Node: a.ids[0].Record})
	w.must(err)
	raw, err := a.e.SealSigned(w.now, a.id(), relay.peer(), protocol.CmdRelayJoin, join)
	w.must(err)
	if _, err := relay.e.VerifyDetached(w.now, raw, nil); err == nil {
		t.Error("a stranger without its record was believed")
	}
	if _, err := relay.e.VerifyDetached(w.now, raw, b.ids[0].Record); !errors.Is(err, protocol.ErrCertificate) {
		t.Errorf("another's record: %v", err)
	}
	v, err := relay.e.VerifyDetached(w.now, raw, a.ids[0].Record)
	w.must(err)
	if v.Sender != a.id() || v.Command != protocol.CmdRelayJoin || !bytes.Equal(v.Payload, join) || v.From.IsValid() {
		t.Errorf("verified %+v", v)
	}
	if _, err := relay.e.VerifyDetached(w.now, raw, a.ids[0].Record); !errors.Is(err, protocol.ErrReplayed) {
		t.Errorf("second sight: %v", err)
	}
	if _, err := b.e.VerifyDetached(w.now, raw, a.ids[0].Record); !errors.Is(err, endpoint.ErrIdentity) {
		t.Errorf("misaddressed: %v", err)
	}
	late, err := a.e.SealSigned(w.now.Add(-time.Hour), a.id(), relay.peer(), protocol.CmdRelayJoin, join)
	w.must(err)
	if _, err := relay.e.VerifyDetached(w.now, late, a.ids[0].Record); !errors.Is(err, protocol.ErrStale) {
		t.Errorf("stale: %v", err)
	}
	raw, err = a.e.SealSigned(w.now, a.id(), relay.peer(), protocol.CmdRelayJoin, join)
	w.must(err)
	inside := func(rec []byte) func([]byte) []byte {
		return func(p []byte) []byte {
			if !bytes.Equal(p, join) {
				t.Error("payload was not opened")
			}
			return rec
		}
	}
	if _, err := relay.e.VerifyCarrying(w.now, raw, inside(b.ids[0].Record)); !errors.Is(err, protocol.ErrCertificate) {
		t.Errorf("another's record inside: %v", err)
	}
	if _, err = relay.e.VerifyCarrying(w.now, raw, inside(a.ids[0].Record)); err != nil {
		t.Errorf("its own record inside: %v", err)
	}
	if _, err := relay.e.VerifyCarrying(w.now, raw, inside(a.ids[0].Record)); !errors.Is(err, protocol.ErrReplayed) {
		t.Errorf("second sight: %v", err)
	}
	// A tunnel request handed on by others, and its answer the same way back.
	req, err := protocol.Marshal(protocol.TunnelRequest{Device: b.id(), Port: 631, Protocol: protocol.TCP})
	w.must(err)
	raw, err = a.e.SealSigned(w.now, a.id(), b.peer(), protocol.CmdTunnelRequest, req)
	w.must(err)
	v, err = b.e.VerifyDetached(w.now, raw, a.ids[0].Record)
	w.must(err)
	back, err := b.e.SealReply(w.now, v, protocol.CmdTunnelOpened, []byte{0x90})
	w.must(err)
	answer, err := a.e.VerifyDetached(w.now, back, b.ids[0].Record)
	w.must(err)
	env, err := protocol.ParseEnvelope(raw)
	w.must(err)
	if !answer.Reply || answer.MessageID != env.MessageID || answer.Sender != b.id() {
		t.Errorf("answer %+v", answer)
	}
	if _, err := a.e.SealReply(w.now, answer, protocol.CmdPong, nil); !errors.Is(err, endpoint.ErrReply) {
		t.Errorf("reply to a reply: %v", err)
	}
}

// TestBounds fills what is bounded.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	cfg := endpoint.Config{Sessions: true, Limits: endpoint.Limits{Sessions: 8, Peers: 16, Calls: 40, Waiting: 5}}
	b := w.node(cfg, w.identity(7))
	var nodes []*node
	for range 30 {
		n := w.node(on(), w.identity(7))
		n.mustAnswer(n.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
		nodes = append(nodes, n)
	}
	if n := b.e.Sessions(); n > 8 {
		t.Errorf("%d sessions of at most 8", n)
	}
	w.now = w.now.Add(2 * time.Second)
	for _, n := range nodes { // whoever was dropped comes back in a round trip
		n.mustAnswer(n.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	}
	to := w.node(on(), w.identity(7)).peer()
	to.Addr = netip.MustParseAddrPort("192.0.2.1:9")
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = b.e.Call(w.now, b.id(), to, protocol.CmdPing, nil, time.Second, &b.out)
	}
	if !errors.Is(err, endpoint.ErrTooMany) || n != 6 {
		t.Errorf("%d calls waited for one session: %v", n-1, err)
	}
	err = nil
	for n = 0; err == nil && n < 100; n++ {
		_, err = b.e.Call(w.now, b.id(), to, protocol.CmdTransferPartition, nil, time.Second, &b.out)
	}
	if !errors.Is(err, endpoint.ErrTooMany) || n > 41 {
		t.Errorf("%d calls at once: %v", n, err)
	}
	w.pass(3 * time.Second)
	if _, err = b.e.Call(w.now, b.id(), to, protocol.CmdPing, nil, time.Second, &b.out); err != nil {
		t.Errorf("after the calls have ended: %v", err)
	}
}

func TestCallErrors(t *testing.T) {
	w, a, b := pairOf(t)
	wrong := b.peer()
	wrong.Signing = a.peer().Signing
	nowhere := b.peer()
	nowhere.Addr = netip.AddrPort{}
	keyless := protocol.Peer{ID: b.id(), Addr: b.addr}
	for want, to := range map[error]protocol.Peer{endpoint.ErrPeer: wrong, endpoint.ErrNoRoute: nowhere} {
		if _, err := a.e.Call(w.now, a.id(), to, protocol.CmdPing, nil, time.Second, &a.out); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if _, err := a.e.Call(w.now, a.id(), keyless, protocol.CmdPing, nil, time.Second, &a.out); !errors.Is(err, endpoint.ErrPeer) {
		t.Errorf("without keys: %v", err)
	}
	if _, err := a.e.Call(w.now, a.id(), b.peer(), protocol.CmdTunnelRequest, make([]byte, 2000), time.Second, &a.out); !errors.Is(err, protocol.ErrOversized) {
		t.Errorf("oversized: %v", err)
	}
	bad := a.ids[0]
	bad.ID = b.id()
	if err := a.e.AddIdentity(bad); !errors.Is(err, endpoint.ErrIdentity) {
		t.Errorf("an ID that is not the key's: %v", err)
	}
	if _, err := endpoint.New(endpoint.Config{}); err == nil {
		t.Error("made without randomness")
	}
	reply := protocol.Local(&protocol.CertifiedNode{ID: a.id()}, b.id(), protocol.CmdPing, nil, w.now)
	reply.Reply = true
	if err := a.e.Reply(w.now, reply, protocol.CmdPong, nil, &a.out); !errors.Is(err, endpoint.ErrReply) {
		t.Errorf("reply to a reply: %v", err)
	}
}

// TestSeedReplays runs the same conversation twice: every byte is the same.
func TestSeedReplays(t *testing.T) {
	run := func() [32]byte {
		w, a, b := pairOf(t)
		h := sha256.New()
		w.seen = func(_, _ netip.AddrPort, m []byte) bool { h.Write(m); return true }
		for range 5 {
			a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
			b.mustAnswer(b.call(a.peer(), protocol.TransferPartition{}), protocol.CmdNodeInfo)
			w.pass(time.Second)
		}
		return [32]byte(h.Sum(nil))
	}
	if first, again := run(), run(); first != again {
		t.Error("two runs of one seed differ")
	}
}
