package endpoint_test

import (
	"errors"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

func TestClock(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	for _, skew := range []time.Duration{5 * time.Minute, -5 * time.Minute, day, -day, 10 * year, -10 * year} {
		for _, sessions := range []bool{true, false} {
			w := newWorld(t)
			idA := w.identity(7)
			cfg := endpoint.Config{Sessions: sessions, Lookup: func(id protocol.ID) ([]byte, bool) { return idA.Record, id == idA.ID }}
			op, b := w.node(cfg, w.operator()), w.node(cfg, w.identity(7))
			var learned []time.Duration
			cfg.ClockLearned = func(d time.Duration) { learned = append(learned, d) }
			a := w.node(cfg, idA)
			a.skew = skew
			// A peer's word does not move the clock, and people are told.
			id := a.call(b.peer(), protocol.GetNodeInfo{})
			w.run()
			w.pass(6 * time.Second)
			if ev := a.outcome(id); ev == nil || !errors.Is(ev.Err, endpoint.ErrClock) || len(learned) > 0 {
				t.Fatalf("%v off: ended with %+v, learned %v", skew, ev, learned)
			}
			a.mustAnswer(a.call(op.peer(), protocol.Ping{}), protocol.CmdPong)
			if len(learned) != 1 || (learned[0]+skew).Abs() > time.Second || a.e.Offset() != learned[0] {
				t.Fatalf("%v off: learned %v", skew, learned)
			}
			a.mustAnswer(a.call(b.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
			a.mustAnswer(a.call(op.peer(), protocol.GetNodeInfo{}), protocol.CmdNodeInfo)
			if len(learned) != 1 {
				t.Errorf("learned %v", learned)
			}
		}
	}
}

// TestClockFromAnOperatorThatLies cannot go to where the operator's record does not hold.
func TestClockFromAnOperatorThatLies(t *testing.T) {
	w := newWorld(t)
	op, a := w.node(on(), w.operator()), w.node(on(), w.identity(7))
	op.handle = func(*protocol.Verified) (protocol.Command, []byte, bool) {
		return protocol.CmdPong, protocol.Pong{Time: start.Add(-400 * 24 * time.Hour).UnixMilli()}.AppendPayload(nil), true
	}
	a.mustAnswer(a.call(op.peer(), protocol.Ping{}), protocol.CmdPong)
	if a.e.Offset() != 0 {
		t.Errorf("offset %v", a.e.Offset())
	}
}
