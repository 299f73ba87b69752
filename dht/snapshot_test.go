package dht_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// wire opens streams between servers of a fabric; each breaks after so many bytes from the server, if that is not negative.
type wire struct {
	t       *testing.T
	f       *fleet
	from    *keeper
	breaks  []int
	opened  atomic.Int32
	carried atomic.Int64
	wg      sync.WaitGroup
}

// pipeEnd is one end of two pipes.
type pipeEnd struct {
	*io.PipeReader
	*io.PipeWriter
}

func pipe() (a, b pipeEnd) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return pipeEnd{r1, w2}, pipeEnd{r2, w1}
}

// Close implements io.Closer.
func (p pipeEnd) Close() error { return errors.Join(p.PipeReader.Close(), p.PipeWriter.Close()) }

type breaking struct {
	pipeEnd
	w    *wire
	left int
}

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.pipeEnd.Read(p)
	b.w.carried.Add(int64(n))
	if b.left >= 0 {
		if b.left -= n; b.left < 0 {
			b.pipeEnd.Close()
			return 0, io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (w *wire) dial(ctx context.Context, to protocol.Peer) (io.ReadWriteCloser, error) {
	n, left := int(w.opened.Add(1)), -1
	if n <= len(w.breaks) {
		left = w.breaks[n-1]
	}
	a, b := pipe()
	w.wg.Go(func() {
		defer b.Close()
		_ = w.f.servers[to.ID].server.ServeSnapshots(b, w.from.node.ID, w.f.clock)
	})
	context.AfterFunc(ctx, func() { a.Close() })
	return &breaking{a, w, left}, nil
}

// An empty member takes over by streams, past breaks, and what came before a break is not sent again.
func TestSnapshot(t *testing.T) {
	records := 4000
	if testing.Short() {
		records = 1500
	}
	var raws [][]byte
	size := 0
	var once sync.Once
	for name, breaks := range map[string][]int{"whole": nil, "broken twice": {150_000, 100_000}, "no stream": {0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 2)
				a, b := f.order[0], f.order[1]
				once.Do(func() {
					for i := range records {
						raws = append(raws, f.world.Device(protocol.Domain(i*1_000_000), fmt.Sprint("d", i), 1))
						size += len(raws[i]) + 2
					}
				})
				if _, err := a.server.Apply(t.Context(), start, raws); err != nil {
					t.Fatal(err)
				}
				f.install(f.layout(1, place{a, whole, none}, place{b, none, whole}), a, b)
				w := &wire{t: t, f: f, from: b, breaks: breaks}
				r, err := dht.StartReplica(dht.ReplicaConfig{
					Server: b.server, Store: b.store, Caller: caller{f.fabric, b.node}, Self: b.node.ID, Now: f.clock, Interval: time.Hour, Dial: w.dial,
				})
				if err != nil {
					t.Fatal(err)
				}
				if synctest.Wait(); !f.progress(b).Filled {
					t.Error("not filled")
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				w.wg.Wait()
				if !same(a.member, b.member) {
					t.Error("the two differ")
				}
				if c := w.carried.Load(); name != "no stream" && (c < int64(size)*2/3 || c > int64(size)*3/2) {
					t.Errorf("%d bytes by streams for records of %d", c, size)
				}
				t.Logf("%d streams, %d bytes of %d", w.opened.Load(), w.carried.Load(), size)
			})
		})
	}
}

// A stream on which hardly anything comes ends some time, as the peer's failure.
func TestSnapshotWithoutAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		a, b := f.order[0], f.order[1]
		var raws [][]byte
		for i := range 1000 {
			raws = append(raws, f.world.Device(protocol.Domain(i*1_000_000), fmt.Sprint("d", i), 1))
		}
		if _, err := a.server.Apply(t.Context(), start, raws); err != nil {
			t.Fatal(err)
		}
		f.install(f.layout(1, place{a, whole, none}, place{b, none, whole}), a, b)
		var wg sync.WaitGroup
		failed := make(chan error, 100)
		r, err := dht.StartReplica(dht.ReplicaConfig{
			Server: b.server, Store: b.store, Caller: caller{f.fabric, b.node}, Self: b.node.ID, Now: f.clock, Interval: time.Minute,
			OnError: func(err error) { failed <- err },
			Dial: func(ctx context.Context, _ protocol.Peer) (io.ReadWriteCloser, error) {
				mine, theirs := pipe()
				context.AfterFunc(ctx, func() { mine.Close() })
				wg.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
				return mine, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			if errors.Is(err, dht.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Error("no end after an hour")
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}

// A stream from a liar: what is forged is refused, what has no end is ended, and a stranger is given nothing.
func TestUnsoundSnapshots(t *testing.T) {
	f := newFleet(t, 2)
	a, b := f.order[0], f.order[1]
	f.install(f.layout(1, place{a, whole, none}), a, b)
	raw := f.world.Device(7, "d", 1)
	if _, err := a.server.Apply(t.Context(), start, [][]byte{raw}); err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(raw)
	forged[len(forged)-70] ^= 1
	q := protocol.Repair{Table: protocol.TableEndDevice, To: 1<<64 - 1}
	frame := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	fetch := func(answer []byte) (got int, err error) {
		rw := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(answer), io.Discard}
		err = dht.FetchSnapshot(rw, bufio.NewReader(rw), q, 100, func(l [][]byte) error {
			n, err := b.server.Apply(t.Context(), start, l)
			got += n
			return err
		})
		return got, err
	}
	if n, err := fetch(append(frame(forged), 0, 0, 1)); n != 0 || err != nil {
		t.Errorf("forged: %d taken in: %v", n, err)
	}
	for name, answer := range map[string][]byte{
		"cut off": frame(raw), "half a record": frame(raw)[:50], "too long": {0xff, 0xff, 1, 2, 3}, "without end": bytes.Repeat(frame(raw), 200), "empty": nil,
	} {
		if _, err := fetch(answer); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := fetch([]byte{0, 0, 0}); !errors.Is(err, dht.ErrSnapshotRefused) {
		t.Errorf("refused: %v", err)
	}
	w := &wire{t: t, f: f, from: b}
	s, _ := w.dial(t.Context(), protocol.Peer{ID: a.node.ID})
	if err := dht.FetchSnapshot(s, bufio.NewReader(s), q, 100, func([][]byte) error { return nil }); !errors.Is(err, dht.ErrSnapshotRefused) {
		t.Errorf("to a stranger to the map: %v", err)
	}
	s.Close()
	for _, junk := range []string{"\xff\xff", "\x00\x03abc", "\x00\x01\xc0"} {
		conn := struct {
			io.Reader
			io.Writer
		}{bytes.NewReader([]byte(junk)), io.Discard}
		if err := a.server.ServeSnapshots(conn, a.node.ID, f.clock); err == nil {
			t.Errorf("request %q: no error", junk)
		}
	}
	w.wg.Wait()
	if !f.has(a, raw) || storetest.Parse(t, raw) == nil {
		t.Error("the server's own went")
	}
}
