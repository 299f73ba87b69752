package nodetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol"
)

// A super-node that is killed during stores has, when it is back, every version that it acknowledged, or a newer one. The
// operator is stopped, so that nobody else could give it back what it lost.
func TestKilledDuringStores(t *testing.T) {
	t.Parallel()
	const (
		writers = 80
		kills   = manyKills
		stores  = manyStores
	)
	m := newMesh(t, "acme")
	super := m.superProcess("super", "acme")
	token := m.token("acme", writers)
	all := make([]*writer, writers)
	for i := range all {
		all[i] = &writer{probe: m.probeBy(token, true)}
	}
	to := super.peer()
	m.stop()

	var acked atomic.Int64
	began := time.Now()
	var down time.Duration
	for round := 1; round <= kills; round++ {
		// Somewhere within each share of the stores, not at its end.
		at := int64(stores/kills*(round-1) + 50 + 397*round%400)
		write(t, all, to, &acked, at, super.kill)
		killed := time.Now()
		super.start()
		var lost atomic.Int64
		var wg sync.WaitGroup
		for _, w := range all {
			wg.Go(func() {
				if err := w.check(to); err != nil {
					lost.Add(1)
					t.Errorf("kill %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		down += time.Since(killed)
		if lost.Load() > 0 {
			t.Fatalf("kill %d: %d of %d records are not as acknowledged", round, lost.Load(), writers)
		}
	}
	write(t, all, to, &acked, stores, func() {})
	for _, w := range all {
		noError(t, w.check(to))
	}
	t.Logf("%d stores acknowledged in %s, %d kills, %s from a kill until all is read back", acked.Load(), time.Since(began).Round(time.Millisecond), kills, (down / kills).Round(time.Millisecond))
}

// writer puts one version of its NodeInfo after the other.
type writer struct {
	*probe
	tried, acked uint64
}

// write has all writers store until so many versions are acknowledged, then calls then, while they go on, and stops them.
func write(t *testing.T, all []*writer, to protocol.Peer, acked *atomic.Int64, until int64, then func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reached := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for _, w := range all {
		wg.Go(func() {
			for ctx.Err() == nil {
				if acked.Load() >= until {
					once.Do(func() { close(reached) })
				}
				if err := w.store(ctx, to); err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				acked.Add(1)
			}
		})
	}
	select {
	case <-reached:
		then()
	case <-ctx.Done():
		t.Errorf("only %d of %d stores in %s", acked.Load(), until, patience)
	}
	cancel()
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// store puts the next version and tries until it is acknowledged.
func (w *writer) store(ctx context.Context, to protocol.Peer) error {
	w.tried++
	raw, err := w.info(w.tried, protocol.NodeInfoValue{Name: "writer", Version: fmt.Sprint(w.tried)})
	if err != nil {
		return err
	}
	for {
		st, err := w.put(ctx, to, w.id, raw, 5*time.Second)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			continue
		case st.Status == protocol.StatusOK && st.Sequence >= w.tried:
			w.acked = w.tried
			return nil
		case st.Status == protocol.StatusLimit, st.Status == protocol.StatusInternal: // so many puts a second of one node; a slow disk
			if err := w.pause(ctx); err != nil {
				return err
			}
		default:
			return fmt.Errorf("version %d of %s was taken as %s", w.tried, w.id.Short(), st.Status)
		}
	}
}

func (w *writer) pause(ctx context.Context) error {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check reads back what is served.
func (w *writer) check(to protocol.Peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		v, err := w.call(ctx, to, protocol.GetNodeInfo{ID: w.id}, 2*time.Second)
		if ctx.Err() != nil {
			return fmt.Errorf("nobody serves %s: %w", w.id.Short(), ctx.Err())
		}
		if err != nil || v.Command != protocol.CmdNodeInfo {
			continue // not up yet
		}
		l, err := protocol.ParseRecordList(v.Payload)
		if err != nil {
			return err
		}
		var have uint64
		if len(l.Records) == 1 {
			r, err := protocol.ParseRecord(l.Records[0])
			if err != nil {
				return err
			}
			have = r.Sequence
		}
		if have < w.acked {
			return fmt.Errorf("version %d of %s was acknowledged, version %d is served", w.acked, w.id.Short(), have)
		}
		return nil
	}
}
