package sqlite

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"testing"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// A file of the first schema keeps its records, marks and settings.
func TestMigrateKeepsWhatIsHeld(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	db, err := sql.Open("sqlite", dsn(path, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"schema/001_records.sql", "schema/002_own.sql"} {
		text, err := schemaFiles.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	held := make(map[protocol.ID][]byte)
	for _, name := range []string{"a", "b", "c"} {
		r := storetest.Parse(t, w.Device(7, name, 3))
		held[r.Owner] = r.Raw()
		if _, err := db.Exec("INSERT INTO end_device VALUES (?, ?, ?)", r.Owner[:], r.Raw(), rowSum(r.Table, r.Raw())); err != nil {
			t.Fatal(err)
		}
	}
	gone := storetest.Parse(t, w.Device(7, "gone", 3))
	if _, err := db.Exec("INSERT INTO mark VALUES (?, ?, ?, ?, 0, ?); INSERT INTO setting VALUES ('x', x'01'); PRAGMA user_version = 2",
		int64(gone.Table), gone.Owner[:], 1, 3, markSum(gone.Table, gone.Owner[:], dht.VersionOf(gone), 0)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{Budget: 1})
	for owner, raw := range held {
		if got, err := s.Get(protocol.TableEndDevice, owner, storetest.Start); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: %v", owner.Short(), err)
		}
	}
	if v, ok, err := s.Version(gone.Table, gone.Owner); err != nil || !ok || v != dht.VersionOf(gone) {
		t.Errorf("the mark of what has expired: %v %v %v", v, ok, err)
	}
	if v, err := s.Setting("x"); err != nil || !bytes.Equal(v, []byte{1}) {
		t.Errorf("a setting: %v %v", v, err)
	}
}

// What many queries miss is in memory after one Load.
func TestLoadTogether(t *testing.T) {
	w := storetest.NewWorld(t)
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{Budget: 64 << 10})
	held := fill(t, w, s, 1000)
	var cold []dht.Query
	for owner := range held {
		q := dht.Query{Table: protocol.TableEndDevice, By: dht.ByOwner, Key: owner, Now: storetest.Start}
		if !s.Cached(q, 1) && len(cold) < 100 {
			cold = append(cold, q)
		}
	}
	s.Load(cold, 1)
	for _, q := range cold {
		if !s.Cached(q, 1) {
			t.Fatal("not in memory after it was loaded")
		}
		if raw, err := s.Get(q.Table, q.Key, storetest.Start); err != nil || !bytes.Equal(raw, held[q.Key]) {
			t.Fatalf("other bytes: %v", err)
		}
	}
	if len(cold) < 100 {
		t.Errorf("only %d were on disk alone", len(cold))
	}
}

// A store that holds as many as it may takes newer records of those it has, and no others.
func TestRecordsHaveALimit(t *testing.T) {
	w := storetest.NewWorld(t)
	s := open(t, filepath.Join(t.TempDir(), "node.db"), Options{Records: 3})
	put := func(name string, sequence uint64) dht.Outcome {
		t.Helper()
		res, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, w.Device(7, name, sequence))})
		if err != nil {
			t.Fatal(err)
		}
		return res[0].Outcome
	}
	var together []*protocol.Record
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		together = append(together, storetest.Parse(t, w.Device(7, name, 1)))
	}
	res, err := s.Put(t.Context(), together)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []dht.Outcome{dht.Stored, dht.Stored, dht.Stored, dht.NoRoom, dht.NoRoom} {
		if res[i].Outcome != want {
			t.Errorf("record %d: outcome %d, want %d", i, res[i].Outcome, want)
		}
	}
	if o := put("a", 2); o != dht.Stored {
		t.Errorf("a newer one: outcome %d", o)
	}
	if o := put("d", 1); o != dht.NoRoom {
		t.Errorf("another: outcome %d", o)
	}
	a := together[0].Owner
	if n, err := s.Discard(t.Context(), protocol.TableEndDevice, []dht.Held{{Owner: a, Version: dht.Version{Epoch: 1, Sequence: 2}}}); n != 1 || err != nil {
		t.Fatalf("%d discarded, %v", n, err)
	}
	if o := put("d", 1); o != dht.Stored {
		t.Errorf("with room again: outcome %d", o)
	}
}
