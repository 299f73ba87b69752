package sqlite

import (
	"context"
	"errors"

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
// the file: a node's sequence starts again at the floor that its caller gives.
func (s *Store) rebuild(cause error) {
	s.log.Error("the database is corrupt; it is moved aside and rebuilt from memory and the mesh", "file", s.path, "error", cause)
	s.damaged.Store(false)
	raws := s.index.Load().Resident()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.file.close(); err != nil {
		s.log.Warn("the corrupt database does not close cleanly", "file", s.path, "error", err)
	}
	if err := moveAside(s.path, s.asideSuffix()); err != nil {
		s.log.Error("the corrupt database cannot be moved aside", "file", s.path, "error", err)
	}
	h, err := openHandle(context.Background(), s.path, s.opts.MaxBytes)
	if err != nil {
		s.log.Error("no new database can be made", "file", s.path, "error", err)
		s.damaged.Store(true) // the closed handle stays: the next write tries again
		return
	}
	s.file = h
	x := index.New(s.opts.Budget)
	err = s.commit([]*request{{work: func(g *group) error {
		g.index = x
		for _, raw := range raws {
			r, err := protocol.ParseRecord(raw)
			if err != nil {
				continue
			}
			if _, err := g.put(r); err != nil {
				return err
			}
		}
		return nil
	}}})
	if err == nil {
		err = s.load(context.Background(), h, x)
	}
	if err != nil {
		s.log.Error("what was in memory is not in the new database", "file", s.path, "error", errors.Join(cause, err))
	}
	s.index.Store(x)
}
