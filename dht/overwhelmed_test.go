package dht_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// reading is a mesh of so many, inside a bubble, and a node that reads.
func reading(t *testing.T, members int) (*fabric, []*member, *storetest.Node, *dht.Client) {
	f := newFabric(t)
	f.began = time.Now()
	ms := f.mesh(members, dht.Config{})
	a := f.world.Node(7, "a")
	return f, ms, a, f.client(a, ms[0].server.Map())
}

// Hundreds of lookups that nobody answers end in time and ask for the map together, not one after the other: whoever has
// given up leaves the queue, and what one has found out is true for all.
func TestFailingLookupsShareTheQuestionForTheMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ms, a, c := reading(t, 3)
		defer c.Close()
		for _, m := range ms {
			m.down = true
		}
		const lookups = 500
		var wg sync.WaitGroup
		for i := range lookups {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				began := time.Now()
				_, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID})
				if !errors.Is(err, dht.ErrUnreachable) {
					t.Errorf("lookup %d: %v", i, err)
				}
				if took := time.Since(began); took > 10*dht.DefaultTimeout {
					t.Errorf("lookup %d took %v", i, took)
				}
			})
		}
		wg.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		calls := 0
		for _, n := range f.calls {
			calls += n
		}
		if calls < 3*lookups || calls > 4*lookups {
			t.Errorf("%d questions for %d lookups of 3 members", calls, lookups)
		}
	})
}

// Who waits for another's question for the map may give up.
func TestWaitingForTheMapEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ms, _, c := reading(t, 2)
		defer c.Close()
		ms[0].down, ms[1].down = true, true
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.RefreshMap(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		wg.Go(func() {
			if _, err := c.RefreshMap(ctx); !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
	})
}

// A lookup that others answer is over before the map is here that one member has named. The map is learned all the same: else
// every lookup would go by the old one, until those who still serve by it are gone.
func TestANamedMapIsLearnedThoughTheLookupIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ms, a, c := reading(t, 3)
		defer c.Close()
		if err := c.Store(t.Context(), f.world.Info(a, 1, f.clock())); err != nil {
			t.Fatal(err)
		}
		_, recs, head := f.world.Map(2, ms[0].node, ms[1].node, ms[2].node)
		if _, err := ms[2].server.Apply(t.Context(), f.clock(), append(recs, head)); err != nil || ms[2].server.Map().Epoch() != 2 {
			t.Fatal(err)
		}
		synctest.Wait()
		ms[2].hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
			switch v.Command {
			case protocol.CmdGetNodeInfo:
				return protocol.Reply(protocol.WrongRange{Epoch: 2})
			case protocol.CmdGetSuperNodes:
				time.Sleep(100 * time.Millisecond)
			}
			return out
		}
		began := time.Now()
		for range 20 {
			if _, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if c.Map().Epoch() != 2 {
			t.Errorf("still by the map of epoch %d after %v", c.Map().Epoch(), time.Since(began))
		}
	})
}

// Only one member had the newest version, and gave it to a reader before it died. The others have it a moment later: the
// reader, who takes no older one, asks them once more.
func TestAnOlderAnswerIsAskedForOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ms, a, c := reading(t, 4)
		defer c.Close()
		target := dht.Target{Kind: dht.FindNodeInfo, Key: a.ID}
		old, newest := f.world.Info(a, 1, f.clock()), f.world.Info(a, 2, f.clock())
		for _, m := range ms {
			if _, err := m.server.Apply(t.Context(), f.clock(), [][]byte{a.Record, old}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ms[0].server.Apply(t.Context(), f.clock(), [][]byte{newest}); err != nil {
			t.Fatal(err)
		}
		for recs := []*protocol.Record(nil); len(recs) == 0 || recs[0].Sequence != 2; {
			var err error
			if recs, err = c.Lookup(t.Context(), target); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // the newer may be on its way to one who was asked
		// All three say the older until half a second after the last of them was asked.
		asked, given := make(map[protocol.ID]bool), time.Time{}
		for _, m := range ms[1:] {
			m.hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
				if v.Command != protocol.CmdGetNodeInfo {
					return out
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				now := f.now.Add(time.Since(f.began))
				if !given.IsZero() && now.After(given) {
					return protocol.Reply(protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{newest}}})
				}
				if asked[m.node.ID] = true; len(asked) == 3 && given.IsZero() {
					given = now.Add(500 * time.Millisecond)
				}
				return protocol.Reply(protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{old}}})
			}
		}
		ms[0].down = true
		if recs, err := c.Lookup(t.Context(), target); err != nil || recs[0].Sequence != 2 {
			t.Errorf("%v", err)
		}
	})
}
