// Package memstore is a dht.Store without a disk: for tests, simulations and nodes that keep nothing. Durable means here
// that it lasts as long as the Store.
package memstore

import (
	"bytes"
	"context"
	"sync"
	"time"

	"culvert/dht"
	"culvert/dht/index"
	"culvert/protocol"
)

// Store keeps everything in memory.
type Store struct {
	index *index.Index

	mu       sync.Mutex
	closed   bool
	marks    map[name]mark
	sequence map[name]uint64
	settings map[string][]byte
}

type name struct {
	table protocol.Table
	owner protocol.ID
}

type mark struct {
	version dht.Version
	until   time.Time // zero: for good
}

var _ dht.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{
		index: index.New(0), marks: make(map[name]mark), sequence: make(map[name]uint64), settings: make(map[string][]byte),
	}
}

// Put implements dht.Store.
func (s *Store) Put(ctx context.Context, records []*protocol.Record) ([]dht.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, dht.ErrClosed
	}
	out := make([]dht.Result, len(records))
	for i, r := range records {
		res, known := s.index.Compare(r)
		if m, ok := s.marks[name{r.Table, r.Owner}]; ok && !known && !m.version.Less(dht.VersionOf(r)) {
			res = dht.Result{Outcome: dht.Superseded, Held: m.version}
		}
		if res.Outcome == dht.Stored {
			s.index.Apply(r)
		}
		out[i] = res
	}
	return out, nil
}

// Get implements dht.Store.
func (s *Store) Get(t protocol.Table, owner protocol.ID, now time.Time) ([]byte, error) {
	r, ok := s.index.Get(t, owner, now)
	if !ok {
		return nil, dht.ErrNotFound
	}
	return r.Raw, nil
}

// Select implements dht.Store.
func (s *Store) Select(q dht.Query, dst []dht.Item) (int, error) {
	n, _ := s.index.Items(q, dst)
	return n, nil
}

// Cached implements dht.Store: always.
func (s *Store) Cached(dht.Query, int) bool { return true }

// Whole implements dht.Store: always.
func (s *Store) Whole() bool { return true }

// Load implements dht.Store: all is in memory.
func (s *Store) Load([]dht.Query, int) {}

// Prefetch implements dht.Store.
func (s *Store) Prefetch(keys []dht.Key) { s.index.Prefetch(keys) }

// Version implements dht.Store.
func (s *Store) Version(t protocol.Table, owner protocol.ID) (dht.Version, bool, error) {
	if v, ok := s.index.Version(t, owner); ok {
		return v, true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.marks[name{t, owner}]
	return m.version, ok, nil
}

// Digest implements dht.Store.
func (s *Store) Digest(t protocol.Table, from, to uint64) protocol.DigestPart {
	return s.index.Digest(t, from, to)
}

// Counts implements dht.Store.
func (s *Store) Counts(d protocol.Domain) dht.Counts { return s.index.Counts(d) }

// Expire implements dht.Store.
func (s *Store) Expire(ctx context.Context, now time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, dht.ErrClosed
	}
	for k, m := range s.marks {
		if !m.until.IsZero() && !now.Before(m.until) {
			delete(s.marks, k)
		}
	}
	due := s.index.Due(now, -1)
	for _, r := range due {
		m := mark{version: r.Version}
		if r.Table == protocol.TableNodeInfo {
			m.until = r.Expires.Add(dht.MarkKeep)
		}
		s.marks[name{r.Table, r.Owner}] = m
		s.index.Remove(r.Table, r.Owner, r.Version)
	}
	return len(due), nil
}

// Discard implements dht.Store.
func (s *Store) Discard(ctx context.Context, t protocol.Table, records []dht.Held) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, dht.ErrClosed
	}
	n := 0
	for _, h := range records {
		r, ok := s.index.Held(t, h)
		if !ok {
			continue
		}
		m := mark{version: h.Version.Before()}
		if t == protocol.TableNodeInfo {
			m.until = r.Expires.Add(dht.MarkKeep)
		}
		s.marks[name{t, h.Owner}] = m
		s.index.Remove(t, h.Owner, h.Version)
		n++
	}
	return n, nil
}

// NextSequence implements dht.Store.
func (s *Store) NextSequence(ctx context.Context, t protocol.Table, owner protocol.ID, floor uint64) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, dht.ErrClosed
	}
	n := max(s.sequence[name{t, owner}]+1, floor)
	s.sequence[name{t, owner}] = n
	return n, nil
}

// Setting implements dht.Store.
func (s *Store) Setting(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.settings[key]), nil
}

// SetSetting implements dht.Store.
func (s *Store) SetSetting(ctx context.Context, key string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return dht.ErrClosed
	}
	s.settings[key] = bytes.Clone(value)
	return nil
}

// Health implements dht.Store.
func (s *Store) Health() error { return nil }

// Close implements dht.Store. What is held can still be read.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
