package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/sqlite/faultdisk"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// The disk runs full again and again, wherever the database is then: stores are refused as ErrReadOnly and leave nothing behind,
// reads go on, one line says so, and with room again the next store works, without a restart.
func TestDiskFull(t *testing.T) {
	w := storetest.NewWorld(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "node.db")
	disk := faultdisk.New(t, dir)
	var log bytes.Buffer
	now := storetest.Start
	s := open(t, path, Options{Budget: 1, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }})
	r := rand.New(rand.NewPCG(6, 6))
	held := make(map[protocol.ID][]byte)
	const rounds = 30
	refused, named := 0, 0
	for round := range rounds {
		now = now.Add(2 * complainEvery)
		disk.Full(int64(r.IntN(3) * r.IntN(200_000)))
		for without := 0; without < 5; {
			named++
			raw := w.Device(7, fmt.Sprint("device ", named), 1)
			rec := storetest.Parse(t, raw)
			_, err := s.Put(t.Context(), []*protocol.Record{rec})
			switch {
			case err == nil:
				held[rec.Owner] = raw
				continue
			case !errors.Is(err, dht.ErrReadOnly) || !errors.Is(s.Health(), dht.ErrReadOnly):
				t.Fatalf("round %d: %v, health %v", round, err, s.Health())
			}
			without++
			refused++
			if _, err := s.Get(protocol.TableEndDevice, rec.Owner, storetest.Start); !errors.Is(err, dht.ErrNotFound) {
				t.Fatalf("round %d: what was refused is served: %v", round, err)
			}
		}
		if n := served(t, s, held); n != len(held) {
			t.Fatalf("round %d: %d of %d served without room", round, n, len(held))
		}
		disk.Room()
		if _, err := s.NextSequence(t.Context(), protocol.TableNodeInfo, w.OpID, 0); err != nil || s.Health() != nil {
			t.Fatalf("round %d: with room again: %v, health %v", round, err, s.Health())
		}
	}
	t.Logf("%d stores, %d refused in %d times without room", len(held), refused, rounds)
	full, room := strings.Count(log.String(), "is the disk full?"), strings.Count(log.String(), "can be written again")
	if full != rounds || room != rounds {
		t.Errorf("%d lines say that the disk is full, %d that there is room again, for %d times", full, room, rounds)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	integrity(t, path)
	if n := served(t, open(t, path, Options{}), held); n != len(held) {
		t.Errorf("%d of %d served after all", n, len(held))
	}
}

// A disk that is full off and on is complained of once a minute.
func TestDiskFullOffAndOn(t *testing.T) {
	var log bytes.Buffer
	now := storetest.Start
	s := &Store{log: slog.New(slog.NewTextHandler(&log, nil)), opts: Options{Now: func() time.Time { return now }}}
	for range 600 { // five minutes
		now = now.Add(500 * time.Millisecond)
		s.setHealth(dht.ErrReadOnly)
		s.setHealth(nil)
	}
	if n := strings.Count(log.String(), "\n"); n < 8 || n > 12 {
		t.Errorf("%d lines in five minutes", n)
	}
	s.setHealth(dht.ErrReadOnly)
	now = now.Add(complainEvery)
	s.setHealth(dht.ErrReadOnly)
	if l := strings.TrimSpace(log.String()); !strings.Contains(l[strings.LastIndex(l, "\n")+1:], "cannot be written") {
		t.Error("the last word is not that the disk is full")
	}
}

// The file is corrupt and there is no room for a new one: what is in memory is served, stores are refused, and with room again
// the new file has all of it.
func TestCorruptWithoutRoom(t *testing.T) {
	w := storetest.NewWorld(t)
	for room := range int64(12) { // the making of the new file fails ever later
		dir := t.TempDir()
		path := filepath.Join(dir, "node.db")
		disk := faultdisk.New(t, dir)
		s := open(t, path, Options{})
		held := fill(t, w, s, 200)
		s.reportDamage()
		disk.Full(room * 20_000)
		late := w.Device(9, "late", 1)
		put := func() error {
			_, err := s.Put(t.Context(), []*protocol.Record{storetest.Parse(t, late)})
			return err
		}
		for range 3 {
			err := put()
			if err == nil {
				held[storetest.Parse(t, late).Owner] = late
			} else if !errors.Is(err, dht.ErrReadOnly) || s.Health() == nil {
				t.Fatalf("room for %d: %v, health %v", room, err, s.Health())
			}
			if n := served(t, s, held); n != len(held) {
				t.Fatalf("room for %d: %d of %d served", room, n, len(held))
			}
		}
		disk.Room()
		if err := put(); err != nil || s.Health() != nil {
			t.Fatalf("room for %d: with room again: %v, health %v", room, err, s.Health())
		}
		held[storetest.Parse(t, late).Owner] = late
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		integrity(t, path)
		if n := served(t, open(t, path, Options{}), held); n != len(held) {
			t.Errorf("room for %d: %d of %d in the new file", room, n, len(held))
		}
		if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) > 3 { // the file and what belongs to it
			t.Errorf("room for %d: set aside: %v", room, l)
		}
	}
}
