package sqlite

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// alter changes the file behind the store's back, as damage would.
func alter(t *testing.T, s *Store, statement string, args ...any) {
	t.Helper()
	if _, err := s.file.write.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}

// Rows come under other numbers while the file is open: the index finds nothing where it looks, or another's record.
func TestRowsMovedWhileOpen(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{Budget: 1})
	held := fill(t, w, s, 60)
	alter(t, s, "UPDATE end_device SET id = id + 1000")
	alter(t, s, "UPDATE end_device SET id = 1060 - id + 1 WHERE id > 1030")
	if n := served(t, s, held); n != 0 {
		t.Errorf("%d served, none of which is where it was", n)
	}
	var all []*protocol.Record
	for _, raw := range held {
		all = append(all, storetest.Parse(t, raw))
	}
	if _, err := s.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if n := served(t, s, held); n != 60 {
		t.Errorf("%d of 60 served after they were stored again", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{Budget: 1})
	if n := served(t, s, held); n != 60 {
		t.Errorf("%d of 60 served after it was opened again", n)
	}
	var rows int
	if err := s.file.write.QueryRow("SELECT count(*) FROM end_device").Scan(&rows); err != nil || rows != 60 {
		t.Errorf("%d rows for 60 records: %v", rows, err)
	}
}

// Damage has left an older record in the file: it comes back neither beside the newer one, nor after that has expired.
func TestOlderRowsStayGone(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	n := w.Node(7, "a")
	older, newer := storetest.Parse(t, w.Info(n, 1, storetest.Start)), storetest.Parse(t, w.Info(n, 2, storetest.Start))
	s := open(t, path, Options{})
	leave := func(row int) {
		t.Helper()
		alter(t, s, "INSERT INTO node_info VALUES (?, ?, ?)", row, older.Raw(), rowSum(older.Table, older.Raw()))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, Options{})
	}
	if _, err := s.Put(t.Context(), []*protocol.Record{newer}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []int{70, -70, rowMost} { // after the newer one, before it, and where no row may be
		leave(row)
		if raw, err := s.Get(newer.Table, n.ID, storetest.Start); err != nil || !bytes.Equal(raw, newer.Raw()) {
			t.Fatalf("row %d: %v", row, err)
		}
	}
	if gone, err := s.Expire(t.Context(), newer.Expires.Add(time.Second)); gone != 1 || err != nil {
		t.Fatalf("%d expired, %v", gone, err)
	}
	leave(70)
	if _, err := s.Get(older.Table, n.ID, storetest.Start); !errors.Is(err, dht.ErrNotFound) {
		t.Errorf("the older one came back: %v", err)
	}
	if v, ok, err := s.Version(older.Table, n.ID); err != nil || !ok || v != dht.VersionOf(newer) {
		t.Errorf("version %v %v %v", v, ok, err)
	}
}

// What came in together lies together, and a record that is replaced stays where it is.
func TestRowsStayTogether(t *testing.T) {
	w := storetest.NewWorld(t)
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{})
	names := []string{"a", "b", "c", "d"}
	var was []int64
	for sequence := range uint64(3) {
		for i, name := range names {
			r := storetest.Parse(t, w.Device(7, name, sequence+1))
			if _, err := s.Put(t.Context(), []*protocol.Record{r}); err != nil {
				t.Fatal(err)
			}
			row, held := s.index.Load().Row(r.Table, r.Owner)
			if !held {
				t.Fatal("not held")
			}
			if sequence == 0 {
				was = append(was, row)
			} else if row != was[i] {
				t.Errorf("%s moved from row %d to %d", name, was[i], row)
			}
		}
	}
	for i := 1; i < len(was); i++ {
		if was[i] != was[i-1]+1 {
			t.Errorf("rows %v", was)
		}
	}
}

// Records that lie together fill few pages of the log.
func TestPagesOfAGroup(t *testing.T) {
	g := &group{staged: make(map[stagedKey]placed)}
	for i := range 4 * rowsAPage {
		g.staged[stagedKey{protocol.TableNode, protocol.NewID(7, storetest.Key(string(rune('a'+i))))}] = placed{row: int64(i)}
	}
	if n := g.pages(); n != 4 {
		t.Errorf("%d pages for rows side by side", n)
	}
	for k, p := range g.staged {
		p.row *= rowsAPage
		g.staged[k] = p
	}
	if n := g.pages(); n != len(g.staged) {
		t.Errorf("%d pages for %d rows far from each other", n, len(g.staged))
	}
}
