package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/sqlite/faultdisk"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// `make faults` cuts a thousand times.
var (
	powerCuts = flag.Int("cuts", fewCuts, "how often TestPowerCuts cuts the power")
	firstLife = flag.Uint64("life", 0, "seed of the first database whose power TestPowerCuts cuts")
)

// cutsALife is how many cuts one database lives through before a new one is begun.
const cutsALife = 15

// The power is cut at any moment: at the first opening, during commits, checkpoints, recovery from the cut before, closing. What was
// acknowledged is there afterwards, as it was signed, nothing older comes back, and the database is whole.
func TestPowerCuts(t *testing.T) {
	var sum powerCut
	for life := *firstLife; sum.cuts < *powerCuts; life++ {
		c := newPowerCut(t, life)
		for range min(cutsALife, *powerCuts-sum.cuts) {
			c.cut()
			if t.Failed() {
				t.Fatalf("database %d, cut %d", life, c.cuts)
			}
		}
		sum.add(c)
	}
	t.Logf("%d power cuts (%d before the database was open, %d after it had closed), %d changes on the disk, %d records and numbers acknowledged, looked for %d times: none lost, every database whole",
		sum.cuts, sum.opening, sum.closing, sum.changes, sum.acked, sum.checked)
	if *powerCuts >= 1000 && (sum.opening == 0 || sum.closing == 0) || sum.acked < sum.cuts || sum.opening > sum.cuts/2 {
		t.Error("the cuts are not spread over what a store does")
	}
}

type powerCut struct {
	t    *testing.T
	w    *storetest.World
	r    *rand.Rand
	disk *faultdisk.Disk
	path string

	mu      sync.Mutex
	nodes   [3]*storetest.Node
	tried   [3]uint64 // versions of each node's NodeInfo
	safe    [3]uint64 // acknowledged
	own     [3]uint64 // own numbers acknowledged
	setting [2]int    // acknowledged, tried
	devices map[protocol.ID][]byte
	expired []*storetest.Node // collected, of whom nothing older than version 5 may come back
	named   int

	cuts, opening, closing, changes, acked, checked int
}

func newPowerCut(t *testing.T, seed uint64) *powerCut {
	dir := t.TempDir()
	c := &powerCut{t: t, w: storetest.NewWorld(t), r: rand.New(rand.NewPCG(seed, 7)), disk: faultdisk.New(t, dir),
		path: filepath.Join(must(filepath.EvalSymlinks(dir)), "node.db"), devices: make(map[protocol.ID][]byte)}
	for i := range c.nodes {
		c.nodes[i] = c.w.Node(7, fmt.Sprint("cut ", i))
	}
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (c *powerCut) add(o *powerCut) {
	c.cuts, c.opening, c.closing, c.changes = c.cuts+o.cuts, c.opening+o.opening, c.closing+o.closing, c.changes+o.disk.Changes()
	c.acked, c.checked = c.acked+o.acked, c.checked+o.checked
}

// cut lets the store live until the power fails, and looks at what is left.
func (c *powerCut) cut() {
	t := c.t
	t.Helper()
	c.cuts++
	switch c.r.IntN(4) {
	case 0:
		c.disk.CutAfter(1 + c.r.IntN(12)) // while it opens
	case 1:
		c.disk.CutAfter(1 + c.r.IntN(1200))
	default:
		c.disk.CutAfter(1 + c.r.IntN(200))
	}
	if s, err := Open(t.Context(), c.path, Options{logPages: []int64{0, 8, 64}[c.r.IntN(3)]}); err == nil {
		c.live(s)
	} else if c.opening++; !c.disk.Off() {
		t.Fatal(err)
	}
	if err := c.disk.PowerOn(c.r); err != nil {
		t.Fatal(err)
	}
	c.check()
}

// live stores until nothing can be stored any more. Now and then the store is closed, so that the power fails over that.
func (c *powerCut) live(s *Store) {
	if c.r.IntN(2) == 0 {
		// Checkpoints come every thousand pages; here they are to be cut, too.
		if _, err := s.file.write.Exec("PRAGMA wal_autocheckpoint = 16"); err != nil && !c.disk.Off() {
			c.t.Error(err)
		}
	}
	stop := -1
	if c.r.IntN(4) == 0 {
		stop = c.r.IntN(20)
	}
	var wg sync.WaitGroup
	for i := range c.nodes {
		wg.Go(func() {
			for n := 0; n != stop && c.step(s, i); n++ {
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil && !c.disk.Off() {
		c.t.Error(err)
	}
	if !c.disk.Off() {
		c.closing++
	}
}

// step stores one of everything for writer i; false says that the store has failed, which only the power may bring about.
func (c *powerCut) step(s *Store, i int) bool {
	c.mu.Lock()
	c.tried[i]++
	version := c.tried[i]
	c.named++
	name := fmt.Sprint("device ", c.named)
	c.setting[1]++
	value := c.setting[1]
	c.mu.Unlock()
	info, err := protocol.ParseRecord(c.w.Info(c.nodes[i], version, storetest.Start))
	if err != nil {
		c.t.Error(err)
		return false
	}
	device, err := protocol.ParseRecord(c.w.Device(7, name, 1))
	if err != nil {
		c.t.Error(err)
		return false
	}
	res, err := s.Put(context.Background(), []*protocol.Record{info, device})
	if err == nil {
		if res[0].Outcome != dht.Stored || res[1].Outcome != dht.Stored {
			c.t.Errorf("version %d: %v", version, res)
		}
		c.mu.Lock()
		c.safe[i] = version
		c.devices[device.Owner] = device.Raw()
		c.acked += 2
		c.mu.Unlock()
	}
	var own uint64
	if err == nil {
		if own, err = s.NextSequence(context.Background(), protocol.TableNodeInfo, c.nodes[i].ID, 0); err == nil {
			c.mu.Lock()
			if own <= c.own[i] {
				c.t.Errorf("own number %d after %d", own, c.own[i])
			}
			c.own[i] = own
			c.acked++
			c.mu.Unlock()
		}
	}
	if err == nil && i == 0 {
		if err = s.SetSetting(context.Background(), "x", fmt.Append(nil, value)); err == nil {
			c.mu.Lock()
			c.setting[0] = value
			c.mu.Unlock()
		}
	}
	if err == nil && i == 1 {
		err = c.expire(s, name)
	}
	if err != nil && (!errors.Is(err, dht.ErrReadOnly) || !c.disk.Off()) {
		c.t.Errorf("writer %d: %v", i, err)
	}
	return err == nil
}

// expire stores a record of a node of that name and collects it: its high-water mark stays.
func (c *powerCut) expire(s *Store, name string) error {
	n := c.w.Node(7, name)
	r, err := protocol.ParseRecord(c.w.Info(n, 5, storetest.Start.Add(-5*time.Minute)))
	if err == nil {
		_, err = s.Put(context.Background(), []*protocol.Record{r})
	}
	if err == nil {
		_, err = s.Expire(context.Background(), storetest.Start.Add(6*time.Minute))
	}
	if err == nil {
		c.mu.Lock()
		c.expired = append(c.expired, n)
		c.acked++
		c.mu.Unlock()
	}
	return err
}

// check looks into a copy: the next life begins with what the cut has left, not with what a look at it made of it.
func (c *powerCut) check() {
	t := c.t
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "node.db")
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if b, err := os.ReadFile(c.path + suffix); err == nil {
			if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := Open(t.Context(), path, Options{Budget: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range c.nodes {
		if c.safe[i] > 0 {
			raw, err := s.Get(protocol.TableNodeInfo, n.ID, storetest.Start)
			if err != nil {
				t.Fatalf("writer %d: version %d was acknowledged: %v", i, c.safe[i], err)
			}
			v := storetest.Parse(t, raw).Sequence
			if v < c.safe[i] || v > c.tried[i] || !bytes.Equal(raw, c.w.Info(n, v, storetest.Start)) {
				t.Fatalf("writer %d: version %d was acknowledged, %d is held", i, c.safe[i], v)
			}
		}
		c.checked++
		if q, err := s.NextSequence(t.Context(), protocol.TableNodeInfo, n.ID, 0); err != nil || q <= c.own[i] {
			t.Fatalf("own number %d after %d: %v", q, c.own[i], err)
		}
	}
	for id, raw := range c.devices {
		if got, err := s.Get(protocol.TableEndDevice, id, storetest.Start); err != nil || !bytes.Equal(got, raw) {
			t.Fatalf("device %s was acknowledged: %v", id.Short(), err)
		}
		c.checked++
	}
	for _, n := range c.expired {
		if v, ok, err := s.Version(protocol.TableNodeInfo, n.ID); err != nil || !ok || v.Sequence != 5 {
			t.Fatalf("the mark of a collected record is %v %v: %v", v, ok, err)
		}
		c.checked++
	}
	if b, err := s.Setting("x"); err != nil {
		t.Fatal(err)
	} else if n := 0; c.setting[0] > 0 {
		if _, err := fmt.Sscan(string(b), &n); err != nil || n < c.setting[0] {
			t.Fatalf("setting %q after %d: %v", b, c.setting[0], err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) > 0 {
		t.Fatal("the database was given up")
	}
	integrity(t, path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// integrity is SQLite's own opinion of the file.
func integrity(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var line string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&line); err != nil || line != "ok" {
		t.Fatalf("integrity: %s %v", line, err)
	}
}
