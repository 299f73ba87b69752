package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	"culvert/dht"
)

// One that reads after the other has the connection of the one before; only those who read at once have one each.
func TestReadersAreLentAgain(t *testing.T) {
	h := open(t, filepath.Join(t.TempDir(), "node.db"), Options{}).file
	var seen []*reader
	lend := func(inside func()) {
		if err := h.withReader(func(r *reader) error { seen = append(seen, r); inside(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	none := func() {}
	lend(none)
	lend(func() { lend(none) })
	lend(none)
	lend(none)
	first, second := seen[0], seen[2]
	if first == second || seen[1] != first || seen[3] != first || seen[4] != first {
		t.Errorf("lent %p", seen)
	}
}

// Who closes waits for those who read, and nobody reads afterwards.
func TestReadersClose(t *testing.T) {
	h := open(t, filepath.Join(t.TempDir(), "node.db"), Options{}).file
	reading, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan error)
	var finished bool
	done := make(chan error)
	go func() {
		done <- h.withReader(func(*reader) error { close(reading); <-goOn; finished = true; return nil })
	}()
	<-reading
	go func() {
		err := h.readers.close()
		if !finished {
			t.Error("closed while somebody reads")
		}
		closed <- err
	}()
	close(goOn)
	if err := errors.Join(<-done, <-closed, h.readers.close()); err != nil {
		t.Fatal(err)
	}
	if err := h.withReader(func(*reader) error { return nil }); !errors.Is(err, dht.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}
