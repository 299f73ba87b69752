package nodetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol"
)

// One domain's nodes put ten times as often as a node may, while those of another store and look up as they always do: nothing of
// the other domain is refused or lost. What its operations take is reported, without and with the flood; it decides nothing.
func TestFloodOfOneDomain(t *testing.T) {
	const (
		calm, floods = 20, 10
		rounds       = 25
		calmEvery    = 150 * time.Millisecond // below the 10 puts a second of one node
		floodEvery   = 10 * time.Millisecond  // ten times those
	)
	m := newMesh(t, "calm", "flood")
	super := m.superProcess("super", "calm")
	to := super.peer()
	writers := make([]*writer, calm)
	token := m.token("calm", calm)
	for i := range writers {
		writers[i] = &writer{probe: m.probeBy(token, true)}
	}
	work := func() (took []time.Duration) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() {
				tick := time.NewTicker(calmEvery)
				defer tick.Stop()
				for range rounds {
					<-tick.C
					one, two, err := w.storeAndLook(t.Context(), to)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					took = append(took, one, two)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return took
	}
	work() // sessions are opened
	before := work()

	ctx, cancel := context.WithCancel(t.Context())
	var accepted, refused, silent atomic.Int64
	var wg sync.WaitGroup
	token = m.token("flood", floods)
	began := time.Now()
	for range floods {
		w := &writer{probe: m.probeBy(token, true)}
		wg.Go(func() {
			tick := time.NewTicker(floodEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				w.tried++
				raw, err := w.info(w.tried, protocol.NodeInfoValue{Name: "flood"})
				if err != nil {
					t.Error(err)
					return
				}
				switch st, err := w.put(ctx, to, w.id, raw, time.Second); {
				case err != nil:
					silent.Add(1)
				case st.Status == protocol.StatusOK:
					accepted.Add(1)
				default:
					refused.Add(1)
				}
			}
		})
	}
	during := work()
	cancel()
	wg.Wait()
	for _, w := range writers {
		if err := w.check(to); err != nil {
			t.Error(err)
		}
	}
	lasted := time.Since(began)
	if most := int64(floods * (100 + 10*lasted.Seconds())); accepted.Load() > most { // a burst, and then ten a second
		t.Errorf("%d puts of the flood were taken, %d at most may be", accepted.Load(), most)
	}
	t.Logf("calm: p50 %s, p99 %s; with the flood p50 %s, p99 %s; flood: %d taken, %d refused, %d without an answer in %s",
		quantile(before, 0.5), quantile(before, 0.99), quantile(during, 0.5), quantile(during, 0.99),
		accepted.Load(), refused.Load(), silent.Load(), lasted.Round(time.Millisecond))
}

// storeAndLook puts the next version and reads it back, once each.
func (w *writer) storeAndLook(ctx context.Context, to protocol.Peer) (put, get time.Duration, err error) {
	w.tried++
	raw, err := w.info(w.tried, protocol.NodeInfoValue{Name: "calm"})
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	st, err := w.put(ctx, to, w.id, raw, patience)
	if err != nil || st.Status != protocol.StatusOK {
		return 0, 0, fmt.Errorf("version %d of %s: %s, %w", w.tried, w.id.Short(), st.Status, err)
	}
	put, w.acked = time.Since(began), w.tried
	began = time.Now()
	if err := w.check(to); err != nil {
		return 0, 0, err
	}
	return put, time.Since(began), nil
}

func quantile(l []time.Duration, q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	l = slices.Sorted(slices.Values(l))
	return l[min(int(q*float64(len(l))), len(l)-1)].Round(10 * time.Microsecond)
}
