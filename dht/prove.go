package dht

import (
	"context"
	"sync"
	"time"

	"culvert/protocol"
)

// proveTimeout bounds one question of a Proof.
const proveTimeout = 3 * time.Second

// Prove runs a Proof to its end, or as long as ctx lasts. Its questions are goroutines that end before it returns.
func Prove(ctx context.Context, caller protocol.Caller, cfg ProofConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	p := NewProof(cfg)
	events := make(chan Event)
	timer := time.NewTimer(0)
	defer timer.Stop()
	e := Event{Kind: EventTick}
	for {
		for _, a := range p.Step(time.Now(), e) {
			wg.Go(func() {
				answer := askOnce(ctx, caller, a)
				select {
				case events <- answer:
				case <-ctx.Done():
				}
			})
		}
		if p.Done() {
			return p.Result()
		}
		timer.Reset(max(time.Until(p.Deadline()), time.Millisecond))
		select {
		case e = <-events:
		case <-timer.C:
			e = Event{Kind: EventTick}
		case <-ctx.Done():
			return p.Result()
		}
	}
}

func askOnce(ctx context.Context, caller protocol.Caller, a Action) Event {
	ctx, done := context.WithTimeout(ctx, proveTimeout)
	defer done()
	v, err := caller.Call(ctx, a.Peer, a.Payload)
	if err != nil {
		return Event{Kind: EventFailed, Tag: a.Tag}
	}
	return Event{Kind: EventAnswer, Tag: a.Tag, Command: v.Command, Payload: v.Payload}
}
