package endpoint_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// Where the answer comes by another way than the question went, only the endpoint orders who asks and who hears the answer: what the
// answer gives back of a call, the asker must have let go. The race detector sees system calls like these as no order at all.
func TestAnswerByAnotherWay(t *testing.T) {
	w, a, b := pairOf(t)
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong) // there is a session
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	now, peer := w.now, b.peer()
	const calls = 20
	heard := make(chan endpoint.CallID, calls)
	go func() {
		defer close(heard)
		var (
			ev      endpoint.Event
			out, to endpoint.Outbox
			buf     [1500]byte
		)
		for {
			n, _, err := unix.Recvfrom(ends[1], buf[:], 0)
			if err != nil || n == 0 {
				return
			}
			b.e.Receive(now, a.addr, buf[:n], &ev, &out)
			if err := b.e.Reply(now, &ev.Verified, protocol.CmdPong, protocol.Pong{}.AppendPayload(nil), &out); err != nil {
				t.Error(err)
				return
			}
			for _, p := range out.Packets() {
				if a.e.Receive(now, b.addr, p.Data, &ev, &to); ev.Kind == endpoint.EventCallDone {
					heard <- ev.Call
				}
			}
			out.Reset()
		}
	}()
	asked := make(map[endpoint.CallID]bool)
	for range calls {
		var out endpoint.Outbox
		id, err := a.e.Call(now, a.id(), peer, protocol.CmdPing, nil, time.Minute, &out)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.Packets() {
			if err := unix.Sendmsg(ends[0], p.Data, nil, nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		asked[id] = true
	}
	_ = unix.Sendmsg(ends[0], nil, nil, nil, 0) // the end
	n := 0
	for id := range heard {
		if n++; !asked[id] {
			t.Errorf("an answer to %x, which nobody asked", id)
		}
	}
	if n != calls {
		t.Errorf("%d of %d answered", n, calls)
	}
	unix.Close(ends[0])
}
