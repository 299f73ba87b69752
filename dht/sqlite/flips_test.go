package sqlite

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"culvert/dht/storetest"
	"culvert/protocol"
)

// `make faults` flips a thousand bits in each state of a database.
var bitFlips = flag.Int("flips", fewFlips, "how many bits TestBitFlips flips in each state of a database")

const flipRecords = 60

// One bit of the files changes: of a database that was closed, of one that was killed with its last commits in the log, of
// one that is open. Nothing is ever served that was not stored; what is lost can be stored again; and at the latest when it is
// opened again the database is whole.
func TestBitFlips(t *testing.T) {
	for _, state := range []string{"closed", "killed", "open"} {
		t.Run(state, func(t *testing.T) {
			f := newFlips(t, state)
			for i := range *bitFlips {
				f.flip(i)
			}
			t.Logf("%d flips: %d changed nothing, %d lost records, %d a whole file; 0 bad records served", *bitFlips, f.harmless, f.dropped, f.moved)
			if f.dropped == 0 || f.harmless == *bitFlips {
				t.Error("the flips hit nothing")
			}
		})
	}
}

type flips struct {
	t     *testing.T
	state string
	r     *rand.Rand
	good  map[string][]byte // what is after the path → what is in the file
	held  map[protocol.ID][]byte
	all   []*protocol.Record
	late  *protocol.Record

	harmless, dropped, moved int
}

func newFlips(t *testing.T, state string) *flips {
	f := &flips{t: t, state: state, r: rand.New(rand.NewPCG(2, uint64(len(state)))), good: make(map[string][]byte)}
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	s := open(t, path, Options{})
	f.held = fill(t, w, s, flipRecords/2)
	if state == "killed" { // half of them in the database, half in its log
		if _, err := s.file.write.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range flipRecords / 2 {
		raw := w.Device(7, fmt.Sprint("later ", i), 1)
		r := storetest.Parse(t, raw)
		f.held[r.Owner] = raw
		if _, err := s.Put(t.Context(), []*protocol.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	if state != "killed" {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, suffix := range []string{"", "-wal"} {
		if b, err := os.ReadFile(path + suffix); err == nil {
			f.good[suffix] = b
		}
	}
	late := w.Device(9, "late", 1) // in no file yet
	f.late = storetest.Parse(t, late)
	f.held[f.late.Owner] = late
	for _, raw := range f.held {
		f.all = append(f.all, storetest.Parse(t, raw))
	}
	return f
}

func (f *flips) flip(i int) {
	t := f.t
	dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
	path := filepath.Join(dir, "node.db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for suffix, b := range f.good {
		if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if f.state != "open" {
		f.spoil(path)
	}
	s := f.open(path, i)
	there := flipRecords
	if f.state == "open" {
		f.spoil(path)
		there++
		f.put(s, i, f.late) // after somebody's commit, readers look at the file again
	}
	if served(t, s, f.held) == there {
		f.harmless++
	} else {
		f.dropped++
	}
	f.put(s, i, f.all...)
	served(t, s, f.held)
	if err := s.Close(); err != nil {
		t.Fatalf("flip %d: close: %v", i, err)
	}
	if l, _ := filepath.Glob(path + ".corrupt-*"); len(l) > 0 {
		f.moved++
	}
	if f.state != "open" { // nothing of the damage outlives the first opening
		integrity(t, path)
	}
	s = f.open(path, i)
	served(t, s, f.held)
	f.put(s, i, f.all...)
	if n := served(t, s, f.held); n != len(f.held) {
		t.Fatalf("flip %d: %d of %d served after they were stored again", i, n, len(f.held))
	}
	if err := s.Close(); err != nil {
		t.Fatalf("flip %d: close: %v", i, err)
	}
	integrity(t, path)
}

// spoil flips one bit of all that there is.
func (f *flips) spoil(path string) {
	at := f.r.IntN(len(f.good[""]) + len(f.good["-wal"]))
	suffix := ""
	if at >= len(f.good[""]) {
		suffix, at = "-wal", at-len(f.good[""])
	}
	h, err := os.OpenFile(path+suffix, os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer h.Close()
	b := bytes.Clone(f.good[suffix][at : at+1])
	b[0] ^= 1 << f.r.IntN(8)
	if _, err := h.WriteAt(b, int64(at)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *flips) open(path string, i int) *Store {
	s, err := Open(f.t.Context(), path, Options{Budget: 1}) // every read is one of the disk
	if err != nil {
		f.t.Fatalf("flip %d: %v", i, err)
	}
	return s
}

func (f *flips) put(s *Store, i int, rs ...*protocol.Record) {
	if _, err := s.Put(f.t.Context(), rs); err != nil {
		f.t.Fatalf("flip %d: put: %v", i, err)
	}
}
