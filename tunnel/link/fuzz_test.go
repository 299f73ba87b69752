package link

import (
	"bytes"
	"testing"
	"time"

	"culvert/protocol"
)

// FuzzFlows has the frames of a peer, in any order, come to a link with a flow of bytes and one of datagrams: what waits unread
// stays within its bounds, and is accounted for to the byte.
func FuzzFlows(f *testing.F) {
	frame := func(t FrameType, counter, offset uint64, data string) []byte {
		return append(AppendHeader(nil, Header{Type: t, Length: len(data), Flow: newFlowID([8]byte{1}, counter), Offset: offset}), data...)
	}
	f.Add(append(frame(FrameDatagram, 1, 0, "one"), frame(FrameDatagram, 1, 1, "")...))
	f.Add(append(frame(FrameOpened, 1, 0, ""), frame(FrameFin, 1, 0, "")...))
	f.Add(append(frame(FrameData, 2, 0, "bytes"), frame(FrameFin, 2, 5, "")...))
	f.Add(append(frame(FrameData, 1, 0, "x"), frame(FrameNews, 0, 0, "")...))
	f.Add(bytes.Repeat(frame(FrameDatagram, 1, 0, ""), 2*mostDatagrams))
	f.Add(frame(FrameReset, 1, 0, string(AppendReason(nil, ReasonLimit, "no"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &Link{
			cfg: Config{Role: RoleUser, PromoteAfter: -1, Timing: Timing{}.withDefaults(), Limits: Limits{}.withDefaults()},
			out: newOutbox(nil), number: [8]byte{1}, start: time.Now(), look: make(chan struct{}, 1), counter: 2,
			flows: make(map[uint64]*Flow),
		}
		udp := newFlow(l, newFlowID(l.number, 1), Open{Protocol: protocol.UDP})
		tcp := newFlow(l, newFlowID(l.number, 2), Open{Protocol: protocol.TCP})
		l.flows[1], l.flows[2] = udp, tcp
		r := bytes.NewReader(b)
		for {
			h, data, err := readFrame(r, nil)
			if err != nil || l.handle(h, data) != nil {
				break
			}
			if len(udp.datagrams) > mostDatagrams || udp.queued > mostQueued || len(udp.recv) > 0 || len(tcp.datagrams) > 0 {
				t.Fatalf("%d datagrams of %d bytes, %d bytes of them elsewhere", len(udp.datagrams), udp.queued, len(udp.recv))
			}
			if got, want := l.buffered.Load(), int64(udp.queued+len(tcp.recv)); got != want {
				t.Fatalf("%d bytes counted, %d held", got, want)
			}
		}
		into := make([]byte, MaxDatagram)
		for len(udp.datagrams) > 0 {
			if _, err := udp.ReceiveDatagram(into); err != nil {
				t.Fatal(err)
			}
		}
		udp.fail(ErrClosed)
		tcp.fail(ErrClosed)
		if n := l.buffered.Load(); n != 0 {
			t.Fatalf("%d bytes of nothing", n)
		}
	})
}
