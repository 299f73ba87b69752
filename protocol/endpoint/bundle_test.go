package endpoint_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// handmade is a peer that seals what no endpoint would.
type handmade struct {
	w    *world
	id   endpoint.Identity
	s    *protocol.Session
	addr netip.AddrPort
}

func newHandmade(w *world, b *node) *handmade {
	h := &handmade{w: w, id: w.identity(7), addr: netip.MustParseAddrPort("10.9.9.9:7700")}
	own := w.keys().Sealing
	ask := w.signed(h.id, b.ids[0], protocol.CmdOpenSession, false, w.now, 7, opening(h.id, own.Public(), 99))
	env, err := protocol.ParseEnvelope(bytes.Clone(ask))
	w.must(err)
	b.receive(h.addr, ask)
	answer, err := protocol.ParseEnvelope(bytes.Clone(b.out.Packets()[0].Data))
	w.must(err)
	b.out.Reset()
	p, err := answer.ReadablePayload()
	w.must(err)
	m, err := protocol.ParseSessionOpened(p)
	w.must(err)
	h.s, err = protocol.NewSession(protocol.SessionParams{
		Local: h.id.ID, Peer: &protocol.CertifiedNode{ID: b.id()}, Index: 99, Remote: m.Index, Initiator: true,
		Opening: env.Transcript(), Opened: answer.Transcript(),
	}, own, m.Ephemeral)
	w.must(err)
	return h
}

// messages is a command, and whether it says that it is a reply, for each message of a datagram.
type messages []struct {
	c     protocol.Command
	reply bool
}

func (h *handmade) datagram(l messages) []byte {
	h.w.t.Helper()
	var p protocol.Packing
	p.Begin(make([]byte, 0, protocol.PackingRoom))
	for i, m := range l {
		if !p.Add(m.c, m.reply, uint64(i+1), []byte{0x90}) {
			h.w.t.Fatal("no place")
		}
	}
	b, err := p.Seal(h.s)
	h.w.must(err)
	return b
}

// answers is what of b's datagrams opens.
func (h *handmade) answers(b *node) (ids []uint64, datagrams int) {
	h.w.t.Helper()
	for _, p := range b.out.Packets() {
		datagrams++
		var v protocol.Verified
		h.w.must(h.s.Unseal(&v, bytes.Clone(p.Data), b.addr))
		for more, err := v.Next(); more; more, err = v.Next() {
			h.w.must(err)
			ids = append(ids, v.MessageID)
		}
	}
	b.out.Reset()
	return ids, datagrams
}

// Questions that are asked together, and their answers, travel together, and each call ends for itself.
func TestWhatLeavesTogetherTravelsTogether(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	b.mustAnswer(b.call(a.peer(), protocol.Ping{}), protocol.CmdPong)
	kinds := make(map[byte]int)
	w.seen = func(_, _ netip.AddrPort, m []byte) bool { kinds[m[0]]++; return true }
	var ids []endpoint.CallID
	for range 60 {
		ids = append(ids, a.call(b.peer(), protocol.Ping{}), b.call(a.peer(), protocol.Ping{}))
	}
	w.must(a.e.Send(w.now, a.id(), b.peer(), protocol.CmdPing, []byte{0x90}, &a.out))
	w.sent = 0
	w.run()
	for i, id := range ids {
		ev := []*node{a, b}[i%2].outcome(id)
		if ev == nil || ev.Kind != endpoint.EventCallDone || ev.Verified.Command != protocol.CmdPong {
			t.Fatalf("call %d: %+v", i, ev)
		}
	}
	// 60 questions fit one datagram, 61 answers two or three; answers to what comes with questions travel with questions.
	if w.sent > 10 || kinds[protocol.TypeBundle] < 4 || kinds[protocol.TypeSigned] != 0 {
		t.Errorf("%d datagrams: %v", w.sent, kinds)
	}
	// What does not fit with others goes alone, and in order.
	w.sent = 0
	long := a.call(b.peer(), protocol.GetNodeInfo{})
	a.mustAnswer(long, protocol.CmdNodeInfo)
	if w.sent != 2 {
		t.Errorf("%d datagrams for one question", w.sent)
	}
}

// Packets closes the datagrams: what is put in afterwards leaves in others.
func TestPacketsCloseDatagrams(t *testing.T) {
	_, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	a.call(b.peer(), protocol.Ping{})
	a.call(b.peer(), protocol.Ping{})
	if n := len(a.out.Packets()); n != 1 {
		t.Fatalf("%d datagrams", n)
	}
	first := bytes.Clone(a.out.Packets()[0].Data)
	a.call(b.peer(), protocol.Ping{})
	l := a.out.Packets()
	if len(l) != 2 || !bytes.Equal(l[0].Data, first) || l[1].Data[0] != protocol.TypeSealed {
		t.Errorf("%d datagrams", len(l))
	}
	a.w.run()
	if b.requests() != 4 {
		t.Errorf("%d requests came", b.requests())
	}
}

// Peers are kept apart, and so are the addresses of one.
func TestBundlesAreOfOnePeerAtOneAddress(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.node(on(), w.identity(7)), w.node(on(), w.identity(7)), w.node(on(), w.identity(7))
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	a.mustAnswer(a.call(c.peer(), protocol.Ping{}), protocol.CmdPong)
	elsewhere := b.peer()
	elsewhere.Addr = netip.MustParseAddrPort("10.8.8.8:1")
	for range 3 {
		for _, to := range []protocol.Peer{b.peer(), c.peer(), elsewhere} {
			a.call(to, protocol.Ping{})
		}
	}
	to := make(map[netip.AddrPort]int)
	for _, p := range a.out.Packets() {
		to[p.Addr]++
	}
	if len(to) != 3 || to[c.addr] != 1 {
		t.Errorf("datagrams by address: %v", to)
	}
}

// What is refused of a datagram is counted, and the rest of it is served.
func TestRefusalsInBundles(t *testing.T) {
	w, _, b := pairOf(t)
	h := newHandmade(w, b)
	b.receive(h.addr, h.datagram(messages{
		{protocol.CmdPing, false}, {protocol.CmdTunnelRequest, false}, {protocol.CmdPong, true}, {0, false}, {protocol.CmdPing, false},
		{protocol.CmdEnd, false}, {protocol.CmdSessionOpened, true}, {protocol.CmdPing, false},
	}))
	ids, datagrams := h.answers(b)
	if len(ids) != 3 || ids[0] != 1 || ids[1] != 5 || ids[2] != 8 || datagrams != 1 {
		t.Errorf("answered %v in %d datagrams", ids, datagrams)
	}
	b.wantDrops("needs signature", 2)
	b.wantDrops("unsolicited", 1)
	b.wantDrops("malformed", 2)
	// A datagram of nothing but refusals confirms the session and brings nothing.
	events := len(b.events)
	b.receive(h.addr, h.datagram(messages{{protocol.CmdPong, true}, {protocol.CmdPong, true}}))
	if len(b.events) != events || b.out.Len() != 0 {
		t.Error("answers were answered")
	}
	b.wantDrops("unsolicited", 3)
	// Its counter counts once for all of its messages.
	m := h.datagram(messages{{protocol.CmdPing, false}, {protocol.CmdPing, false}})
	b.receive(h.addr, bytes.Clone(m))
	b.out.Reset()
	b.receive(h.addr, m)
	b.wantDrops("window", 1)
	if b.out.Len() != 0 {
		t.Error("a replay was answered")
	}
}

// A caller that asks for no more messages loses them, and finds none of them later.
func TestMessagesLeftBehindStayBehind(t *testing.T) {
	w, _, b := pairOf(t)
	h := newHandmade(w, b)
	var ev endpoint.Event
	b.e.Receive(w.now, h.addr, h.datagram(messages{{protocol.CmdPing, false}, {protocol.CmdPing, false}}), &ev, &b.out)
	if ev.Kind != endpoint.EventRequest {
		t.Fatal(ev.Kind)
	}
	for _, m := range [][]byte{{protocol.TypeSealed}, w.signed(w.identity(9), b.ids[0], protocol.CmdPing, false, w.now, 1, nil), nil} {
		b.e.Receive(w.now, h.addr, m, &ev, &b.out)
		if b.e.More(w.now, &ev, &b.out) || ev.Kind != endpoint.EventNone {
			t.Errorf("%x brought a message of an earlier datagram", m)
		}
	}
}

// Under Press whoever has no cookie must fetch one; sessions go on, and nobody is shut out.
func TestPressShedsStrangersFirst(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	c := w.node(on(), w.identity(7))
	b.e.Press(true)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	b.wantDrops("overload", 0)
	c.mustAnswer(c.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	b.wantDrops("overload", 1)
	d := w.node(on(), w.identity(7))
	b.e.Press(false)
	d.mustAnswer(d.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	b.wantDrops("overload", 1)
}

// Calls that wait equally long, and those that do not, end when they should, also where clocks are set back.
func TestCallsEndInTime(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	w.seen = func(netip.AddrPort, netip.AddrPort, []byte) bool { return false }
	ends := make(map[endpoint.CallID]time.Time)
	at := w.now
	for i, d := range []time.Duration{100, 5000, 700, 250, 3000, 251, 10000, 1} {
		d *= time.Millisecond
		now := at.Add(time.Duration(i%3-1) * 30 * time.Millisecond) // not in order
		id, err := a.e.Call(now, a.id(), b.peer(), protocol.CmdPing, []byte{0x90}, d, &a.out)
		w.must(err)
		ends[id] = now.Add(d)
	}
	canceled := a.call(b.peer(), protocol.Ping{})
	a.e.Cancel(canceled)
	for now := at; (len(ends) > 0 || a.e.Calling()) && now.Before(at.Add(time.Minute)); now = now.Add(10 * time.Millisecond) {
		a.out.Reset()
		for _, ev := range a.e.Tick(now, nil, &a.out) {
			end, ok := ends[ev.Call]
			if !ok || ev.Kind != endpoint.EventCallFailed || now.Before(end) || now.Sub(end) > 40*time.Millisecond {
				t.Errorf("%+v at %v, due at %v", ev, now.Sub(at), end.Sub(at))
			}
			delete(ends, ev.Call)
		}
	}
	if len(ends) > 0 || a.e.Calling() {
		t.Errorf("%d calls never ended", len(ends))
	}
}
