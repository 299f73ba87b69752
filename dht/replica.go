package dht

import (
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// repairedSetting remembers across restarts when the last repair of a server that was ready ended, in unix ms.
const repairedSetting = "dht.repaired"

// ReplicaConfig of a Replica.
type ReplicaConfig struct {
	Server   *Server
	Store    Store
	Caller   protocol.Caller
	Self     protocol.ID
	Interval time.Duration // 0 is RepairInterval
	Timeout  time.Duration // of one question; 0 is three seconds
	// Dial opens a stream for snapshots to a member, whose key it proves; nil where there is none. It ends with ctx.
	Dial    func(ctx context.Context, to protocol.Peer) (io.ReadWriteCloser, error)
	Seed    [2]uint64
	Own     func(protocol.ID) bool // names the node's own records, which are never dropped; nil is Self alone
	Now     func() time.Time       // nil is time.Now
	OnError func(error)            // hears what is tried again by itself; nil for nobody
}

// Replica keeps a super-node's records like those of its fellow members: it runs the Replicator and its repairs, collects
// what has expired, and opens the Server once it is ready.
type Replica struct {
	cfg    ReplicaConfig
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// StartReplica starts it; Close ends it.
func StartReplica(cfg ReplicaConfig) (*Replica, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 3 * time.Second
	}
	if cfg.Interval <= 0 {
		cfg.Interval = RepairInterval
	}
	if cfg.Own == nil {
		cfg.Own = func(id protocol.ID) bool { return id == cfg.Self }
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	text, err := cfg.Store.Setting(repairedSetting)
	if err != nil {
		return nil, err
	}
	var last time.Time
	if ms, err := strconv.ParseInt(string(text), 10, 64); err == nil && ms > 0 {
		last = time.UnixMilli(ms)
	}
	cfg.Server.HoldBack()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Replica{cfg: cfg, wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go r.run(ctx, NewReplicator(cfg.Self, cfg.Interval, last, cfg.Now(), rand.New(rand.NewPCG(cfg.Seed[0], cfg.Seed[1]))))
	return r, nil
}

// MapChanged makes it look at the Server's map again.
func (r *Replica) MapChanged() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close ends every repair and waits for it.
func (r *Replica) Close() error {
	r.cancel()
	<-r.done
	return nil
}

type repairEnd struct {
	task ReplicaTask
	end  RepairEnd
}

func (r *Replica) run(ctx context.Context, plan *Replicator) {
	defer close(r.done)
	var wg sync.WaitGroup
	defer wg.Wait()
	ends := make(chan repairEnd)
	var sweep *Sweep
	pace := time.NewTimer(0)
	defer pace.Stop()
	collect := time.NewTicker(r.cfg.Interval / 2)
	defer collect.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var current *partition.Map
	for {
		now := r.cfg.Now()
		if m := r.cfg.Server.Map(); m != nil && m != current {
			current = m
			plan.SetMap(now, m)
		}
		r.cfg.Server.SetReady(plan.Ready())
		r.cfg.Server.SetProgress(plan.Progress(now))
		if !plan.Holding(now) {
			r.cfg.Server.Release(plan.Epoch())
		}
		for _, t := range plan.Due(now) {
			wg.Go(func() {
				end := r.repair(ctx, t)
				select {
				case ends <- repairEnd{t, end}:
				case <-ctx.Done():
				}
			})
		}
		if plan.Settled(now) {
			r.cfg.Server.Settled(plan.Epoch())
		}
		if plan.Drop(now) {
			if sweep = r.cfg.Server.NewSweep(plan.Epoch(), r.cfg.Own); sweep != nil {
				pace.Reset(0)
			}
		}
		timer.Stop()
		if d := plan.Deadline(); !d.IsZero() {
			timer.Reset(max(d.Sub(now), time.Millisecond))
		}
		select {
		case e := <-ends:
			if e.end.Err != nil {
				r.cfg.OnError(e.end.Err)
			}
			plan.Finished(r.cfg.Now(), e.task, e.end)
			if e.end.Err == nil && plan.Ready() {
				r.remember(ctx)
			}
		case <-timer.C:
		case <-r.wake:
		case <-pace.C:
			if sweep != nil && !sweep.Done() {
				pace.Reset(r.sweep(ctx, sweep))
			}
		case <-collect.C:
			if _, err := r.cfg.Store.Expire(Behind(ctx), r.cfg.Now()); err != nil && ctx.Err() == nil {
				r.cfg.OnError(err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// sweepPause lies between two steps of a sweep, so that it takes a small share of the disk.
const sweepPause = 50 * time.Millisecond

// sweep drops a batch and says how long to wait before the next.
func (r *Replica) sweep(ctx context.Context, w *Sweep) time.Duration {
	if _, err := w.Step(ctx, r.cfg.Now()); err != nil {
		if ctx.Err() == nil {
			r.cfg.OnError(err)
		}
		return r.cfg.Interval
	}
	return sweepPause
}

// remember notes the time of a repair, for the next run.
func (r *Replica) remember(ctx context.Context) {
	now := strconv.FormatInt(r.cfg.Now().UnixMilli(), 10)
	if err := r.cfg.Store.SetSetting(ctx, repairedSetting, []byte(now)); err != nil && ctx.Err() == nil {
		r.cfg.OnError(err)
	}
}
