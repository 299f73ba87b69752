package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"culvert/dht/index"
	"culvert/protocol"
)

// reportDamage is how a reader tells the writer that the file is corrupt. The next write replaces it; until then reads of
// what is in memory go on.
func (s *Store) reportDamage() {
	if s.damaged.Swap(true) {
		return
	}
	s.log.Error("the database is corrupt", "file", s.path)
	select {
	case s.requests <- &request{work: func(*group) error { return nil }, answer: make(chan error, 1)}:
	default: // a full queue means that a write is about to come anyway
	}
}

// rebuild moves the file aside and begins a new one with what is in memory. Own sequences, marks and settings are lost with
// the file: a node's sequence starts again at the floor that its caller gives. Where there is no room for a new file, what is in
// memory goes on being served, and the next write tries again.
func (s *Store) rebuild(cause error) error {
	if !s.aside { // else this is one more try
		s.log.Error("the database is corrupt; it is moved aside and rebuilt from memory and the mesh", "file", s.path, "error", cause)
	}
	s.damaged.Store(false)
	raws := s.index.Load().Resident()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.file.close(); err != nil {
		s.log.Warn("the corrupt database does not close cleanly", "file", s.path, "error", err)
	}
	if err := moveAside(s.path, s.asideSuffix()); err != nil {
		s.damaged.Store(true)
		return fmt.Errorf("%w: move the corrupt database aside: %w", errNoRoom, err)
	}
	h, x, err := s.begin(raws)
	s.aside = err != nil
	if err != nil {
		s.damaged.Store(true) // the closed handle stays: the next write tries again
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if rerr := os.Remove(s.path + suffix); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
		return fmt.Errorf("%w: begin a new database: %w", errNoRoom, err)
	}
	s.file = h
	s.index.Store(x)
	return nil
}

// begin makes a new file with these records and its index.
func (s *Store) begin(raws [][]byte) (_ *handle, _ *index.Index, err error) {
	h, err := openHandle(context.Background(), s.path, s.opts)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	x := index.New(s.opts.Budget)
	if err := commit(h, x, []*request{{work: func(g *group) error {
		for _, raw := range raws {
			r, err := protocol.ParseRecord(raw)
			if err != nil {
				continue
			}
			if _, _, err := g.put(r, rowSum(r.Table, r.Raw())); err != nil {
				return err
			}
		}
		return nil
	}}}, s.opts.Records); err != nil {
		return nil, nil, err
	}
	return h, x, s.load(context.Background(), h, x)
}
