package endpoint_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// A node that gives a victim's address as its own has a session's peer send at most three times what it sends, however it packs
// its questions and however often it asks.
func TestSessionAmplifiesLittle(t *testing.T) {
	w := newWorld(t)
	b := w.node(on(), w.identity(7))
	h := newHandmade(w, b)
	b.receive(h.addr, h.datagram(messages{{protocol.CmdGetNodeInfo, false}}))
	if l := b.out.Packets(); len(l) != 1 || len(l[0].Data) < 1000 {
		t.Fatalf("%d datagrams at the address where the session was opened", len(l))
	}
	b.out.Reset()
	one, many := messages{{protocol.CmdGetNodeInfo, false}}, messages(nil)
	for range 22 {
		many = append(many, one...)
	}
	for _, victims := range []int{1, 3} {
		in, out := 0, 0
		for k := range 60 {
			victim := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + k%victims)}), uint16(1000+k))
			x := h.datagram([]messages{one, many}[k/victims%2])
			in += len(x)
			b.receive(victim, x)
			for _, p := range b.out.Packets() {
				out += len(p.Data)
				if p.Addr != victim {
					t.Errorf("something goes to %v", p.Addr)
				}
			}
			if out > 3*in {
				t.Fatalf("%d bytes for %d", out, in)
			}
			b.out.Reset()
			w.now = w.now.Add(100 * time.Millisecond)
		}
		if out == 0 {
			t.Error("no answer at all: the test tests little")
		}
	}
	if b.e.Stats()["unproven address"] == 0 {
		t.Error("nothing was held back")
	}
	// What says that it answers the question whether somebody receives there must know the question.
	victim := netip.MustParseAddrPort("198.51.100.1:53")
	b.receive(victim, h.datagram(messages{{protocol.CmdPong, true}, {protocol.CmdGetNodeInfo, false}}))
	for _, p := range b.out.Packets() {
		if len(p.Data) > 300 {
			t.Errorf("%d bytes after a guessed answer", len(p.Data))
		}
	}
}

// A node that has really moved has its long answer at the first repetition, and from then on at once; one whose port alone has
// changed, or that comes back to where it was, at once.
func TestLongAnswersFollowTheNode(t *testing.T) {
	w, a, b := pairOf(t)
	w.now = w.now.Add(time.Second)
	long := func() endpoint.CallID { return a.call(b.peer(), protocol.GetNodeInfo{}) }
	first := a.addr
	a.mustAnswer(long(), protocol.CmdNodeInfo)
	a.move(netip.AddrPortFrom(first.Addr(), 4242).String())
	a.mustAnswer(long(), protocol.CmdNodeInfo)
	a.move("203.0.113.9:4242")
	id := long()
	w.run()
	if ev := a.outcome(id); ev != nil {
		t.Fatalf("answered before it has shown that it is there: %+v", ev)
	}
	w.pass(300 * time.Millisecond)
	a.mustAnswer(id, protocol.CmdNodeInfo)
	b.wantDrops("unproven address", 1)
	a.mustAnswer(long(), protocol.CmdNodeInfo)
	a.move(first.String())
	a.mustAnswer(long(), protocol.CmdNodeInfo)
	a.move("203.0.113.9:99")
	a.mustAnswer(long(), protocol.CmdNodeInfo)
	b.wantDrops("unproven address", 1)
	if n := b.requests(); n != 7 {
		t.Errorf("%d requests", n)
	}
}

// The question whether a node receives at its new address may be lost like everything else.
func TestLostQuestionIsAskedAgain(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
	a.move("203.0.113.9:4242")
	lost := 0
	w.seen = func(from, _ netip.AddrPort, m []byte) bool {
		if from == b.addr && lost == 0 && !bytes.Equal(m[:1], []byte{protocol.TypeSigned}) {
			lost++
			return false
		}
		return true
	}
	id := a.call(b.peer(), protocol.GetNodeInfo{})
	w.pass(2 * time.Second)
	if ev := a.outcome(id); ev == nil || ev.Kind != endpoint.EventCallDone || lost != 1 {
		t.Errorf("ended with %+v, %d lost", ev, lost)
	}
}
