package dht

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"culvert/protocol"
)

// applyBatch is from how many records on what a repair has fetched is committed: a page is far too little for one commit.
const applyBatch = 256

// repairRun runs one Repair: its questions in goroutines that end with it.
type repairRun struct {
	r      *Replica
	m      *Repair
	wg     sync.WaitGroup
	events chan Event
	held   [][]byte           // fetched and not yet taken in
	stream io.ReadWriteCloser // for snapshots, once it has been needed; of one fetch at a time
	reader *bufio.Reader
}

// repairMost bounds a repair, in intervals: a peer that answers without an end holds up no more than that. What has come by
// then stays, and the next one goes on from there.
const repairMost = 5

var errRepairLong = errors.New("dht: repair without an end")

func (r *Replica) repair(ctx context.Context, t ReplicaTask) RepairEnd {
	ctx, cancel := context.WithTimeoutCause(ctx, repairMost*r.cfg.Interval, errRepairLong)
	defer cancel()
	return r.runRepair(ctx, NewRepair(t.Member.Peer, r.cfg.Store, t.Shared...))
}

// RunRepair runs a repair that no Replica has planned, each question bounded by timeout.
func (s *Server) RunRepair(ctx context.Context, m *Repair, caller protocol.Caller, timeout time.Duration, now func() time.Time) error {
	r := &Replica{cfg: ReplicaConfig{Server: s, Store: s.cfg.Store, Caller: caller, Timeout: timeout, Now: now, OnError: func(error) {}}}
	return r.runRepair(ctx, m).Err
}

func (r *Replica) runRepair(ctx context.Context, m *Repair) RepairEnd {
	ctx, cancel := context.WithCancel(ctx)
	run := &repairRun{r: r, m: m, events: make(chan Event)}
	if r.cfg.Dial != nil {
		run.m.Stream()
	}
	defer run.hangUp()
	defer run.wg.Wait()
	defer cancel()
	e := Event{Kind: EventTick}
	for {
		// Digests are compared with what is held, and certificates looked for there.
		if e.Command == protocol.CmdDigests || len(run.held) >= applyBatch {
			if err := run.flush(ctx); err != nil {
				return run.ended(ctx, err)
			}
		}
		for _, a := range run.m.Step(e) {
			switch a.Kind {
			case ActApply:
				for _, raw := range a.Records {
					run.held = append(run.held, slices.Clone(raw)) // it aliases the answer
				}
			case ActAsk:
				run.wg.Go(func() { run.ask(ctx, a) })
			case ActFetch:
				run.wg.Go(func() { run.fetch(ctx, a) })
			}
		}
		if run.m.Done() {
			if err := run.flush(ctx); err != nil {
				return run.ended(ctx, err)
			}
			return run.m.End()
		}
		select {
		case e = <-run.events:
		case <-ctx.Done():
			return run.ended(ctx, errors.Join(ErrClosed, ctx.Err()))
		}
	}
}

// ended says whose fault an early end is.
func (run *repairRun) ended(ctx context.Context, err error) RepairEnd {
	if context.Cause(ctx) == errRepairLong {
		return RepairEnd{Err: fmt.Errorf("%w: %s", errRepairLong, run.m.peer.ID.Short())}
	}
	return RepairEnd{Err: err, Local: true}
}

func (run *repairRun) flush(ctx context.Context) error {
	if len(run.held) == 0 {
		return nil
	}
	_, err := run.r.cfg.Server.Apply(ctx, run.r.cfg.Now(), run.held)
	run.held = nil
	return err
}

func (run *repairRun) ask(ctx context.Context, a Action) {
	cctx, done := context.WithTimeout(ctx, run.r.cfg.Timeout)
	defer done()
	v, err := run.r.cfg.Caller.Call(cctx, a.Peer, a.Payload)
	answer := Event{Kind: EventFailed, Tag: a.Tag}
	if err == nil {
		answer = Event{Kind: EventAnswer, Tag: a.Tag, Command: v.Command, Payload: v.Payload}
	}
	run.tell(ctx, answer)
}

func (run *repairRun) tell(ctx context.Context, e Event) {
	select {
	case run.events <- e:
	case <-ctx.Done():
	}
}

// fetch takes in a part by the stream, batch by batch. What came before a break stays.
func (run *repairRun) fetch(ctx context.Context, a Action) {
	e := Event{Kind: EventFailed, Tag: a.Tag}
	err := run.fetchBy(ctx, a)
	if err == nil {
		e = Event{Kind: EventAnswer, Tag: a.Tag, Command: protocol.CmdRepaired, Payload: protocol.RecordList{}.AppendPayload(nil)}
	} else if run.hangUp(); ctx.Err() == nil {
		run.r.cfg.OnError(fmt.Errorf("dht: snapshot from %s: %w", a.Peer.ID.Short(), err))
	}
	run.tell(ctx, e)
}

func (run *repairRun) fetchBy(ctx context.Context, a Action) error {
	if run.stream == nil {
		s, err := run.r.cfg.Dial(ctx, a.Peer)
		if err != nil {
			return err
		}
		run.stream, run.reader = s, bufio.NewReaderSize(s, 32<<10)
	}
	return FetchSnapshot(run.stream, run.reader, a.Payload.(protocol.Repair), a.Most, func(batch [][]byte) error {
		_, err := run.r.cfg.Server.Apply(ctx, run.r.cfg.Now(), batch)
		return err
	})
}

func (run *repairRun) hangUp() {
	if run.stream != nil {
		_ = run.stream.Close()
		run.stream = nil
	}
}
