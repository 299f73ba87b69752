package nodetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/dht"
	"culvert/operator"
	"culvert/protocol"
)

var (
	growTo      = flag.Int("grow", growShort, "to how many super-nodes TestGrowAndShrink grows")
	growLookups = flag.Int("lookups", 200, "lookups a second of TestGrowAndShrink")
	growStores  = flag.Int("stores", 20, "stores a second of TestGrowAndShrink")
	growKill    = flag.Bool("growkill", false, "shrink by kill -9, which the operator has to find out")
)

const (
	growWriters = 10 // of each domain
	growLate    = 10 // so many parts of a second an answer may take before there are fewer questions
	growShown   = 20 // failures that are told one by one; all are counted
	shrinkTo    = 2
)

// From the operator alone to many super-nodes, each a process of another customer, and back to two, under lookups and stores:
// ranges split and merge, no lookup fails, nothing that was acknowledged is lost, and at the end all hold the same.
func TestGrowAndShrink(t *testing.T) {
	g := newGrowth(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	g.load(ctx, &wg)
	most := 1
	for i := range *growTo {
		p := g.m.superProcess(fmt.Sprint("super-", i), g.domains[i])
		g.supers, g.ids[p] = append(g.supers, p), p.id("")
		most = max(most, len(g.partitions().Ranges))
	}
	want := *growTo/6 + 1 // a split may wait until somebody has served for a while
	within(t, 5*time.Minute, fmt.Sprint(want, " ranges"), func() bool { return len(g.partitions().Ranges) >= want })
	p := g.settled("grown")
	most = max(most, len(p.Ranges))
	t.Logf("grown to %d super-nodes in %d ranges at epoch %d", len(g.supers), len(p.Ranges), p.Epoch)
	for _, r := range p.Ranges {
		for _, m := range r.Members {
			if m.Domain == "operator" {
				t.Error("the operator still serves a range")
			}
		}
	}
	g.shrink()
	p = g.settled("shrunk")
	if len(p.Ranges) != 1 || len(g.supers) != shrinkTo {
		t.Errorf("%d ranges for %d super-nodes", len(p.Ranges), len(g.supers))
	}
	cancel()
	wg.Wait()
	g.judge(most)
}

type growth struct {
	t       *testing.T
	m       *mesh
	domains []string
	supers  []*process
	ids     map[*process]protocol.ID
	writers []*announcer

	lookups, stores, failed, unsure, late, stale atomic.Int64
	slowest                                      atomic.Int64
}

// announcer is one node that stores what it is asked for.
type announcer struct {
	*probe
	client *dht.Client
	mu     sync.Mutex // one store at a time
	tried  uint64
	acked  atomic.Uint64
	at     atomic.Int64 // when, unix ms
}

func newGrowth(t *testing.T) *growth {
	t.Helper()
	g := &growth{t: t, ids: make(map[*process]protocol.ID)}
	for i := range max(*growTo, 1) {
		g.domains = append(g.domains, fmt.Sprint("customer-", i))
	}
	g.m = newCustomers(t, g.domains...)
	for _, d := range g.domains {
		crowd := newCrowd(t) // each customer's own: one lock for all would be the bottleneck of the load
		token := g.m.token(d, growWriters)
		for range growWriters {
			a := &announcer{probe: g.m.probeBy(token, true)}
			a.client = dht.NewClient(dht.ClientConfig{
				Caller: crowd.as(t, a.probe), Self: a.id, Trust: a.trust, RootKey: g.m.op.RootKey(), Seed: [2]uint64{rand.Uint64(), rand.Uint64()},
			})
			t.Cleanup(func() { a.client.Close() })
			g.writers = append(g.writers, a)
		}
	}
	return g
}

// load starts stores and lookups at their rates, each in a goroutine of its own.
func (g *growth) load(ctx context.Context, wg *sync.WaitGroup) {
	for _, a := range g.writers { // before anybody looks for it
		eventually(g.t, "a node is announced", func() bool { g.store(ctx, a); return a.acked.Load() > 0 })
	}
	paced := func(perSecond int, f func()) {
		wg.Go(func() {
			var all sync.WaitGroup
			defer all.Wait()
			room := make(chan struct{}, max(perSecond/growLate, 1))
			t := time.NewTicker(10 * time.Millisecond)
			defer t.Stop()
			began, done := time.Now(), 0
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				for due := int(time.Since(began).Seconds() * float64(perSecond)); done < due; done++ {
					select {
					case room <- struct{}{}:
						all.Go(func() { f(); <-room })
					default: // a machine that is too slow for this rate has less to do
					}
				}
			}
		})
	}
	paced(*growStores, func() { g.store(ctx, g.writers[rand.IntN(len(g.writers))]) })
	paced(*growLookups, func() { g.lookup(ctx) })
	wg.Go(func() { // every node asks for the map once a minute
		for ctx.Err() == nil {
			for _, a := range g.writers {
				pause(ctx, time.Minute/time.Duration(len(g.writers)))
				_, _ = a.client.RefreshMap(ctx) // an old map is what lookups have to live with
			}
		}
	})
}

func (g *growth) store(ctx context.Context, a *announcer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried++
	seq := a.tried
	raw, err := a.info(seq, protocol.NodeInfoValue{Name: "writer", Version: fmt.Sprint(seq)})
	if err == nil {
		err = a.client.Store(ctx, raw)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, dht.ErrUnreachable) || errors.Is(err, dht.ErrProvisional):
		g.unsure.Add(1) // nothing was promised; on a machine with too much to do all may be late
	case err != nil:
		if g.failed.Add(1) <= growShown {
			g.t.Errorf("store %d of %s: %v", seq, a.id.Short(), err)
		}
	default:
		a.acked.Store(seq)
		a.at.Store(time.Now().UnixMilli())
		g.stores.Add(1)
	}
}

// lookup asks for where a node of the same domain is.
func (g *growth) lookup(ctx context.Context) {
	i := rand.IntN(len(g.writers))
	reader, of := g.writers[i], g.writers[i/growWriters*growWriters+rand.IntN(growWriters)]
	want := of.acked.Load()
	began := time.Now()
	rs, err := g.find(ctx, reader, of)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		if g.failed.Add(1) <= growShown {
			g.t.Errorf("lookup of %s: %v", of.id.Short(), err)
		}
	case rs[0].Sequence < want: // in a range of more than R it may take a repair interval
		g.stale.Add(1)
	}
	g.lookups.Add(1)
	for took := int64(time.Since(began)); ; {
		if old := g.slowest.Load(); took <= old || g.slowest.CompareAndSwap(old, took) {
			return
		}
	}
}

// find looks a node up. Where many super-nodes and their load share one machine, all of them may be late for a moment: that is asked
// again and counted, except in the long run, in which no lookup may fail.
func (g *growth) find(ctx context.Context, reader, of *announcer) ([]*protocol.Record, error) {
	for end := time.Now().Add(patience); ; g.late.Add(1) {
		rs, err := reader.client.Lookup(ctx, dht.Target{Kind: dht.FindNodeInfo, Key: of.id})
		if *growKill || !errors.Is(err, dht.ErrUnreachable) || ctx.Err() != nil || time.Now().After(end) {
			return rs, err
		}
	}
}

func (g *growth) partitions() operator.PartitionsView {
	g.t.Helper()
	return must[operator.PartitionsView](g.t)(g.m.op.Partitions(g.t.Context(), admin))
}

// settled waits until nothing moves.
func (g *growth) settled(what string) (p operator.PartitionsView) {
	g.t.Helper()
	quiet := 0
	within(g.t, 5*time.Minute, what, func() bool {
		p = g.partitions()
		if quiet++; len(p.Moving) > 0 {
			quiet = 0
		}
		return quiet > 3
	})
	return p
}

// shrink takes one super-node of each range away at a time, until there are so few.
func (g *growth) shrink() {
	for len(g.supers) > shrinkTo {
		var out []*process
		taken := make(map[protocol.ID]bool)
		for _, r := range g.partitions().Ranges {
			if len(g.supers)-len(out) == shrinkTo {
				break
			}
			for _, p := range g.supers {
				id := g.ids[p]
				if !taken[id] && slices.ContainsFunc(r.Members, func(m operator.MemberView) bool { return m.ID == id }) {
					taken[id] = true
					out = append(out, p)
					break
				}
			}
		}
		for _, p := range out {
			g.supers = slices.DeleteFunc(g.supers, func(o *process) bool { return o == p })
			if *growKill {
				p.kill()
			} else {
				noError(g.t, g.m.op.BarSuperNode(g.t.Context(), admin, g.ids[p].String()))
			}
		}
		within(g.t, 10*time.Minute, fmt.Sprint(len(out), " super-nodes are off the map"), func() bool {
			return !slices.ContainsFunc(g.partitions().Ranges, func(r operator.RangeView) bool {
				return slices.ContainsFunc(r.Members, func(m operator.MemberView) bool { return taken[m.ID] })
			})
		})
		g.settled(fmt.Sprint("with ", len(g.supers), " left"))
		for _, p := range out {
			p.kill()
		}
		g.t.Logf("%d super-nodes are left, in %d ranges", len(g.supers), len(g.partitions().Ranges))
	}
}

// judge looks for everything that was acknowledged, and at the digests.
func (g *growth) judge(most int) {
	t := g.t
	lost := 0
	for _, a := range g.writers {
		rs, err := g.find(t.Context(), a, a)
		if err != nil && !errors.Is(err, dht.ErrNotFound) {
			t.Error(err)
			continue
		}
		if len(rs) == 0 || rs[0].Sequence < a.acked.Load() {
			lost++
			t.Errorf("version %d of %s was acknowledged and is not found", a.acked.Load(), a.id.Short())
		}
	}
	within(t, 3*time.Minute, "all members hold the same", func() bool {
		return !slices.ContainsFunc(g.partitions().Ranges, func(r operator.RangeView) bool { return r.Equal == nil || !*r.Equal })
	})
	t.Logf("%d lookups (%d failed, %d asked again, %d older than acknowledged, slowest %v), %d stores of %d nodes (%d more not confirmed), %d lost; %d ranges at most, epoch %d",
		g.lookups.Load(), g.failed.Load(), g.late.Load(), g.stale.Load(), time.Duration(g.slowest.Load()).Round(time.Millisecond), g.stores.Load(), len(g.writers), g.unsure.Load(), lost,
		most, g.partitions().Epoch)
	if g.lookups.Load() == 0 || g.stores.Load() == 0 {
		t.Error("the test did little")
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
