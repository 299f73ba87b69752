package nat

import (
	"math/rand/v2"
	"testing"
	"time"

	"culvert/protocol"
)

// Whatever machines are told, in whatever order, they neither panic nor send without end, and they come to their end.
func TestRandomEvents(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(t, seed, 3, open)
		r := rand.New(rand.NewPCG(seed, 1))
		for _, m := range []Machine{NewMeasure(w.config()), NewProber(w.config().Servers, reader(seed))} {
			now, sent, done := start, 0, false
			var last []byte
			for range 2000 {
				e := Event{Kind: EventKind(r.UintN(6)), Socket: r.IntN(8) - 1, Port: uint16(r.UintN(2)) * 4000, Ask: r.IntN(20), Sent: r.UintN(2) == 0,
					Reached: r.UintN(2) == 0, From: w.servers[r.IntN(3)].V4}
				switch r.UintN(4) {
				case 0:
					e.Data = last
				case 1:
					if a, err := (Responder{}).Answer(last, asker4); err == nil {
						e.Data = a
					}
				case 2:
					e.Data = protocol.AppendReachProbe(nil, [16]byte{byte(r.UintN(256))})
				}
				for _, a := range m.Step(now, e) {
					switch a.Kind {
					case ActionSend:
						last = a.Data
						sent++
					case ActionDone:
						done = true
					}
				}
				now = now.Add(time.Duration(r.Int64N(int64(2 * time.Second))))
			}
			for range 10_000 { // time alone ends what is under way, once questions are answered
				if done {
					break
				}
				if next := m.Next(); !next.IsZero() && next.After(now) {
					now = next
				}
				for _, a := range m.Step(now, Event{}) {
					switch a.Kind {
					case ActionOpen:
						m.Step(now, Event{Kind: Opened, Socket: a.Socket})
					case ActionAsk:
						m.Step(now, Event{Kind: Asked, Ask: a.Ask})
					case ActionDone:
						done = true
					}
				}
			}
			if _, measuring := m.(*Measure); measuring && (!done || sent > 200) {
				t.Errorf("seed %d: done %v after %d datagrams", seed, done, sent)
			}
		}
	}
}
