package sqlite

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// However much is written, the log is begun anew before it grows without bound.
func TestLogStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	const pages = 64
	s := open(t, path, Options{logPages: pages})
	w := storetest.NewWorld(t)
	n := w.Node(7, "a")
	for i := range 40 * pages {
		if _, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, w.Info(n, uint64(i+1), storetest.Start))}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	// Not begun anew it would have all 40: who copies in the background may hold the writer's copying up for as long as it is not run.
	if most := int64(16 * pages * 4096); f.Size() > most {
		t.Errorf("the log has %d bytes, more than %d", f.Size(), most)
	}
}

// A write that nobody waits for is committed with the next that somebody waits for, and by itself where none comes.
func TestBehind(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{})
	w := storetest.NewWorld(t)
	reqs := make(chan int, 3)
	work := func(n int) *request { return &request{work: func(*group) error { reqs <- n; return nil }} }
	behind := dht.Behind(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.do(behind, work(1)); err != nil {
			t.Error(err)
		}
	})
	if n := <-reqs; n != 1 { // alone, after a moment
		t.Errorf("work %d", n)
	}
	wg.Wait()
	for i := range 5 {
		wg.Go(func() {
			if _, err := s.Put(behind, []*protocol.Record{storetest.Parse(t, w.Device(7, string(rune('a'+i)), 1))}); err != nil {
				t.Error(err)
			}
		})
	}
	put := storetest.Parse(t, w.Device(7, "waited for", 1))
	if _, err := s.Put(t.Context(), []*protocol.Record{put}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := s.Counts(7).Records; n != 6 {
		t.Errorf("%d of 6 stored", n)
	}
	// One that waits when the store closes is written first.
	last := storetest.Parse(t, w.Device(7, "last", 1))
	r := &request{work: func(g *group) error { _, _, err := g.put(last, rowSum(last.Table, last.Raw())); return err }, answer: make(chan error, 1), behind: true}
	s.requests <- r
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.answer; err != nil {
		t.Errorf("when the store closed: %v", err)
	}
}
