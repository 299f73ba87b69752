package messages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc"
	"culvert/bench/world"
	"culvert/dht/sqlite"
	"culvert/protocol"
)

const (
	// growthBudget holds the records of every size: what is measured is what grows where the cache is as large as it must be.
	growthBudget = 1 << 30
	// one lookup is under way, which waits for nothing but itself; stores wait for a commit, which is shared.
	growthLookups = 1
	growthPuts    = 64
)

// ownerOf is the owner of record i. There is nobody behind it: a store looks at no signature, and lookups are answered with what was
// stored.
func ownerOf(i int) protocol.ID {
	return protocol.NewID(world.Domain, sha256.Sum256(fmt.Appendf(nil, "culvert benchmark owner %d", i)))
}

// Growing is the part that serves so many records: half of them Node, half EndDevice.
func Growing(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var a recordsArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, filepath.Join(a.Dir, fmt.Sprint(a.Records, ".db")), sqlite.Options{Budget: growthBudget})
	if err != nil {
		return err
	}
	var s serving
	s.onClose(store.Close)
	defer func() { err = errors.Join(err, s.close()) }()
	l, err := likenesses(w, a.Records)
	if err != nil {
		return err
	}
	if err := fillStore(ctx, store, l); err != nil {
		return err
	}
	n, err := newServer(w, store)
	if err != nil {
		return err
	}
	var at netip.AddrPort
	if at, err = s.add(single, n.loop); err != nil {
		return err
	}
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// likenesses are n records that are one of each table but for their owner.
func likenesses(w *world.World, n int) ([]*protocol.Record, error) {
	m, err := w.Member("likeness", 0)
	if err != nil {
		return nil, err
	}
	device, err := w.Device(m.Cert.ID, 1)
	if err != nil {
		return nil, err
	}
	l := make([]*protocol.Record, n)
	return l, parallel(n, func(i int) (err error) {
		raw := m.Cert.Record
		if i%2 == 1 {
			raw = device
		}
		raw = bytes.Clone(raw)
		id := ownerOf(i / 2)
		copy(raw[recordOwner:], id[:])
		l[i], err = protocol.ParseRecord(raw)
		return err
	})
}

// timed notes how long each request takes.
type timed struct {
	question
	since map[int]time.Time
	took  []time.Duration
}

func newTimed(q question) *timed { return &timed{question: q, since: make(map[int]time.Time)} }

func (q *timed) reset() {
	clear(q.since)
	q.took = q.took[:0]
}

func (q *timed) payload(b []byte, n int) (protocol.Command, []byte) {
	q.since[n] = time.Now()
	return q.question.payload(b, n)
}

func (q *timed) check(v *protocol.Verified, n int) error {
	q.took = append(q.took, time.Since(q.since[n]))
	delete(q.since, n)
	return q.question.check(v, n)
}

// within is how many microseconds so many of 100 took at most; 0 where there were none.
func (q *timed) within(percent int) float64 {
	if len(q.took) == 0 {
		return 0
	}
	slices.Sort(q.took)
	return q.took[len(q.took)*percent/100].Seconds() * 1e6
}

// getOwner asks for the Node records of owners nobody is behind.
type getOwner struct{ n int }

func (q getOwner) id(n int) protocol.ID { return ownerOf(n * stride % q.n) }

func (q getOwner) payload(b []byte, n int) (protocol.Command, []byte) {
	return protocol.CmdGetNode, protocol.GetNode{ID: q.id(n)}.AppendPayload(b)
}

func (q getOwner) check(v *protocol.Verified, n int) error {
	m, err := protocol.ParseNode(v.Payload)
	if err != nil || v.Command != protocol.CmdNode || len(m.Record) < recordLookups || protocol.ID(m.Record[recordOwner:]) != q.id(n) {
		return wrong(v, err)
	}
	return nil
}

// putDevice stores newer records of owners all over the table, signed before.
type putDevice struct {
	w      *world.World
	n      int
	signed [][]byte
	first  int
}

func (q *putDevice) sign(from, n int) error {
	q.first, q.signed = from, make([][]byte, n)
	return parallel(n, func(i int) (err error) {
		k := from + i
		q.signed[i], err = q.w.Device(ownerOf(k*stride%q.n), q.sequence(k))
		return err
	})
}

// sequence is that of Put n: each owner's rises.
func (q *putDevice) sequence(n int) uint64 { return uint64(2 + n/q.n) }

func (q *putDevice) payload(b []byte, n int) (protocol.Command, []byte) {
	if n-q.first >= len(q.signed) {
		if err := q.sign(n, growthPuts); err != nil {
			return protocol.CmdPut, nil // refused, which ends the run
		}
	}
	raw := q.signed[n-q.first]
	return protocol.CmdPut, protocol.Put{Key: protocol.ID(raw[recordOwner:]), Record: raw}.AppendPayload(b)
}

func (q *putDevice) check(v *protocol.Verified, n int) error {
	return acknowledged(v, n, q.sequence(n))
}

// RecordsGrowth is how a lookup and a store change with the number of records, up to most, from a thousandth of it.
func RecordsGrowth(most int) measure.Growth {
	return measure.Growth{
		Title: "lookups and stores with many records", X: "records", Sizes: measure.Decades(max(most/1000, 4), most), Together: true,
		Notes: "half Node, half EndDevice, in SQLite and all in memory (a cache of 1 GiB); the median time of a GetNode, one at a time, and of a Put\n" +
			"of an EndDevice somewhere in the table, verified and acknowledged after its commit, 64 at a time",
		At: growing,
	}
}

// growing starts a server with so many records, and its load.
func growing(ctx context.Context, size int) (_ []measure.GrowthCell, _ func() error, err error) {
	var ends []func() error
	end := func() (err error) {
		for _, f := range slices.Backward(ends) {
			err = errors.Join(err, f())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	dir, err := os.MkdirTemp("", "culvert-bench-")
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, func() error { return os.RemoveAll(dir) })
	var at netip.AddrPort
	c, err := proc.Start(ctx, "messages-growing", recordsArg{size, dir}, &at)
	if err != nil {
		return nil, nil, err
	}
	ends = append(ends, c.Close)
	w, err := world.New(time.Now())
	if err != nil {
		return nil, nil, err
	}
	devices := &putDevice{w: w, n: size / 2}
	var l []measure.GrowthCell
	for i, x := range []struct {
		name   string
		q      question
		window int
		within float64
	}{{"culvert GetNode", getOwner{size / 2}, growthLookups, 1.5}, {"culvert Put", devices, growthPuts, 2}} {
		t := newTimed(x.q)
		a, conn, err := growingLoad(ctx, w, at, uint64(100+i), t, min(x.window, size/2))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", x.name, err)
		}
		ends = append(ends, conn.Close)
		cell := measure.GrowthCell{Within: x.within}
		cell.Name, cell.Unit, cell.Less = x.name, "µs", true
		cell.Run = func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			if x.q == devices {
				if err := devices.sign(a.asked, int(putMost/2*d.Seconds())+growthPuts); err != nil {
					return measure.Sample{}, err
				}
			}
			t.reset()
			s, err := drive(ctx, conn, a, min(x.window, size/2), d)
			s.Value = t.within(50)
			return s, err
		}
		l = append(l, cell)
	}
	return l, end, nil
}

// growingLoad makes the load of one cell, and warms it.
func growingLoad(ctx context.Context, w *world.World, at netip.AddrPort, seed uint64, q question, window int) (*nodeAsker, conn, error) {
	server, err := w.Member("server", 0)
	if err != nil {
		return nil, nil, err
	}
	peer := server.Peer()
	peer.Addr = at
	m, err := w.Member("growth", int(seed))
	if err != nil {
		return nil, nil, err
	}
	e, err := w.Endpoint(true, seed, []*world.Member{m})
	if err != nil {
		return nil, nil, err
	}
	a := newNodeAsker(e, []protocol.ID{m.Cert.ID}, peer, q)
	conn, err := single.listen()
	if err != nil {
		return nil, nil, err
	}
	if err := warm(ctx, conn, a, window); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return a, conn, nil
}
