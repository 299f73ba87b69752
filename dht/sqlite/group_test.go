package sqlite

import (
	"bytes"
	"context"
	"errors"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// hold keeps the writer busy until it is released; what is asked meanwhile becomes one group.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	r := &request{work: func(*group) error { close(busy); <-free; return nil }, answer: make(chan error, 1)}
	s.requests <- r
	<-busy
	return func() {
		close(free)
		if err := <-r.answer; err != nil {
			t.Error(err)
		}
	}
}

// result is what a Put came to.
type result struct {
	out []dht.Result
	err error
}

// queue has records stored and returns once that waits for the writer.
func queue(ctx context.Context, s *Store, records ...*protocol.Record) <-chan result {
	before := len(s.requests)
	c := make(chan result, 1)
	go func() {
		out, err := s.Put(ctx, records)
		c <- result{out, err}
	}()
	for len(s.requests) == before {
		runtime.Gosched()
	}
	return c
}

func outcomes(l []dht.Result) (o []dht.Outcome) {
	for _, r := range l {
		o = append(o, r.Outcome)
	}
	return o
}

func whole(s *Store) protocol.DigestPart {
	return s.Digest(protocol.TableNodeInfo, 0, math.MaxUint64)
}

// A group in which one request fails is tried again request by request: nothing is left of the first time, and an owner that comes
// several times, in one Put and in the next, is held once, in the row where it is on disk.
func TestGroupIsTriedAgain(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{Budget: 1}) // every read is one of the disk, by the row
	n, m := w.Node(7, "n"), w.Node(7, "m")
	info := func(n *storetest.Node, sequence uint64, at string) *protocol.Record {
		return storetest.Parse(t, w.Info(n, sequence, storetest.Start.Add(time.Duration(sequence)*time.Second), storetest.Key(at), n.ID.Hash()))
	}
	n1, n2, n3, m1, m2 := info(n, 1, "a"), info(n, 2, "b"), info(n, 3, "b"), info(m, 1, "a"), info(m, 2, "c")
	boom := errors.New("boom")
	release := hold(t, s)
	a := queue(t.Context(), s, n1, n2, m1, n1)
	tried := 0
	failing := &request{work: func(*group) error { tried++; return boom }, answer: make(chan error, 1)}
	s.requests <- failing
	b := queue(t.Context(), s, n3, m1, m2, n2)
	release()
	if err := <-failing.answer; !errors.Is(err, boom) || tried != 2 {
		t.Errorf("%v after %d attempts", err, tried)
	}
	for _, c := range []struct {
		got  result
		want []dht.Outcome
	}{
		{<-a, []dht.Outcome{dht.Stored, dht.Stored, dht.Stored, dht.Superseded}},
		{<-b, []dht.Outcome{dht.Stored, dht.Same, dht.Stored, dht.Superseded}},
	} {
		if c.got.err != nil || !slices.Equal(outcomes(c.got.out), c.want) {
			t.Errorf("%v, %v, wanted %v", c.got.out, c.got.err, c.want)
		}
	}
	before := whole(s)
	check := func() {
		t.Helper()
		for _, r := range []*protocol.Record{n3, m2} {
			if raw, err := s.Get(r.Table, r.Owner, storetest.Start); err != nil || !bytes.Equal(raw, r.Raw()) {
				t.Errorf("not the newest: %v", err)
			}
		}
		if c := s.Counts(7); c.Records != 2 || c.Nodes != 0 || before.Count != 4 {
			t.Errorf("%+v, %d pairs", c, before.Count)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{Budget: 1})
	check()
	if after := whole(s); after != before {
		t.Errorf("opened again it sums to %+v, before to %+v", after, before)
	}
}

// Who no longer waits for a Put gets nothing of it, while the writer may still be at it.
func TestPutThatNobodyWaitsForAnyMore(t *testing.T) {
	w := storetest.NewWorld(t)
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{})
	r := storetest.Parse(t, w.Device(7, "a", 1))
	ctx, cancel := context.WithCancel(t.Context())
	release := hold(t, s)
	c := queue(ctx, s, r)
	cancel()
	if got := <-c; !errors.Is(got.err, context.Canceled) || got.out != nil {
		t.Errorf("%v, %v", got.out, got.err)
	}
	release()
	out, err := s.Put(t.Context(), []*protocol.Record{r})
	if err != nil || out[0].Outcome != dht.Same {
		t.Errorf("%v, %v: what was queued is stored", out, err)
	}
}
