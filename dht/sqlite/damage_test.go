package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

func fill(t testing.TB, w *storetest.World, s *Store, n int) map[protocol.ID][]byte {
	t.Helper()
	held := make(map[protocol.ID][]byte)
	var rs []*protocol.Record
	for i := range n {
		raw := w.Device(protocol.Domain(7+i%3), fmt.Sprint("device ", i), 1)
		r := storetest.Parse(t, raw)
		held[r.Owner] = raw
		rs = append(rs, r)
	}
	if _, err := s.Put(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	return held
}

// served reads everything that can be read and fails on a byte that was never stored. It returns how many records came.
func served(t *testing.T, s *Store, held map[protocol.ID][]byte) int {
	t.Helper()
	n := 0
	for owner, raw := range held {
		got, err := s.Get(protocol.TableEndDevice, owner, storetest.Start)
		if err == nil && !bytes.Equal(got, raw) {
			t.Fatalf("bad record served for %s", owner.Short())
		}
		if err == nil {
			n++
		}
	}
	items := make([]dht.Item, 2*len(held))
	c, _ := s.Select(dht.Query{Table: protocol.TableEndDevice, By: dht.ByPosition, To: 1<<64 - 1, Now: storetest.Start}, items)
	for _, it := range items[:c] {
		if !bytes.Equal(it.Raw, held[it.Owner]) {
			t.Fatalf("bad record listed for %s", it.Owner.Short())
		}
	}
	return n
}

// Rows that change while the file is open: nothing of them is in memory, so that every read meets them.
func TestRowsChangedWhileOpen(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{Budget: 1})
	held := fill(t, w, s, 60)
	if err := s.do(t.Context(), &request{work: func(*group) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.file.write.Exec("UPDATE end_device SET raw = zeroblob(length(raw)) WHERE id IN (SELECT id FROM end_device ORDER BY id LIMIT 30)"); err != nil {
		t.Fatal(err)
	}
	if n := served(t, s, held); n != 30 {
		t.Errorf("%d of 60 served, want the untouched 30", n)
	}
	for _, raw := range held {
		if _, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, raw)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := served(t, s, held); n != 60 {
		t.Errorf("%d of 60 served after they were stored again", n)
	}
}

func TestRebuildWhileOpen(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{})
	held := fill(t, w, s, 20)
	s.reportDamage()
	extra := w.Device(9, "late", 1)
	if _, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, extra)}); err != nil {
		t.Fatal(err)
	}
	held[storetest.Parse(t, extra).Owner] = extra
	if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) == 0 {
		t.Error("the old file is not moved aside")
	}
	if n := served(t, s, held); n != 21 {
		t.Errorf("%d of 21 served from memory", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := served(t, open(t, path, Options{}), held); n != 21 {
		t.Errorf("%d of 21 served from the new file", n)
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("garbage "), 2000), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	fill(t, storetest.NewWorld(t), s, 3)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", st.Mode(), err)
	}
}

func TestCapReached(t *testing.T) {
	w := storetest.NewWorld(t)
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{MaxBytes: 160 << 10})
	n := w.Node(7, "a")
	old := w.Info(n, 1, storetest.Start)
	if _, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, old)}); err != nil {
		t.Fatal(err)
	}
	var err error
	stored := make(map[protocol.ID][]byte)
	var nodes int
	for ; err == nil && nodes < 2000; nodes++ {
		m := w.Node(7, fmt.Sprint("full ", nodes))
		raw := w.Info(m, 1, storetest.Start)
		if _, err = s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, raw)}); err == nil {
			stored[m.ID] = raw
		}
	}
	if !errors.Is(err, dht.ErrReadOnly) || !errors.Is(s.Health(), dht.ErrReadOnly) {
		t.Fatalf("after %d: %v, health %v", nodes, err, s.Health())
	}
	for id, raw := range stored {
		if got, err := s.Get(protocol.TableNodeInfo, id, storetest.Start); err != nil || !bytes.Equal(got, raw) {
			t.Fatalf("read while full: %v", err)
		}
	}
	// Room comes back, as when somebody cleans up the disk.
	if _, err := s.file.write.Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, w.Info(n, 2, storetest.Start))}); err != nil {
		t.Errorf("put with room again: %v", err)
	}
	if s.Health() != nil {
		t.Errorf("health with room again: %v", s.Health())
	}
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := openHandle(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.write.Exec("PRAGMA user_version = 99")
	if err := errors.Join(err, h.close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}); err == nil {
		t.Error("a newer database opened")
	}
	if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) > 0 {
		t.Error("a newer database was moved aside")
	}
}

// A bit of the schema's own text: the file is whole to SQLite, but no statement fits it any more.
func TestSchemaTextChanged(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{})
	held := fill(t, w, s, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(db, []byte("sum BLOB NOT NULL"))
	if at < 0 {
		t.Fatal("the schema's text was not found in the file")
	}
	db[at] ^= 4
	if err := os.WriteFile(path, db, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) == 0 {
		t.Error("the old file was not set aside")
	}
	var rs []*protocol.Record
	for _, raw := range held {
		rs = append(rs, storetest.Parse(t, raw))
	}
	if _, err := s.Put(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	if n := served(t, s, held); n != len(held) {
		t.Errorf("%d of %d served after they were stored again", n, len(held))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	integrity(t, path)
}
