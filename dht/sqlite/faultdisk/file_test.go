package faultdisk

import (
	"bytes"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite"
)

// What was synced always survives, what was not sometimes, and sometimes in part.
func TestSurvivors(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	old, fresh := bytes.Repeat([]byte{1}, 4*sector), bytes.Repeat([]byte{2}, 4*sector)
	lost, kept, torn, gone, ghosts := 0, 0, 0, 0, 0
	for range 500 {
		f := &file{}
		f.write(0, old)
		if f.survive(r) == nil {
			gone++
		}
		f.sync()
		if b := f.survive(r); !bytes.Equal(b, old) {
			t.Fatal("a synced write is lost")
		}
		f.write(0, fresh)
		switch b := f.survive(r); {
		case bytes.Equal(b, old):
			lost++
		case bytes.Equal(b, fresh):
			kept++
		default:
			torn++
		}
		f.sync()
		f.remove()
		if b := f.survive(r); b != nil {
			ghosts++
		}
	}
	for what, n := range map[string]int{"lost": lost, "kept": kept, "torn": torn, "gone": gone, "back": ghosts} {
		if n < 50 {
			t.Errorf("%s only %d times", what, n)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	d := New(t, dir)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	insert := func() error {
		_, err := db.Exec("INSERT INTO x VALUES (zeroblob(10000))")
		return err
	}
	if _, err := db.Exec("CREATE TABLE x (a BLOB)"); err != nil {
		t.Fatal(err)
	}
	d.Full(0)
	if err := insert(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("insert into a full disk: %v", err)
	}
	d.Room()
	if err := insert(); err != nil {
		t.Error(err)
	}
	if d.Changes() == 0 {
		t.Error("the disk saw nothing")
	}
}
