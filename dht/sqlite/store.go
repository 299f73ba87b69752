package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/dht/index"
	"culvert/protocol"
)

// errNoRoom marks a write that failed for a reason that passes.
var errNoRoom = errors.New("sqlite: cannot write (is the disk full?)")

// DefaultBudget is how many bytes of records are kept in memory.
const DefaultBudget = 64 << 20

// DefaultRecords is how many records are held: the index of so many takes less than 1 GiB.
const DefaultRecords = 2 << 20

// Options of Open; the zero value is complete.
type Options struct {
	Budget   int64 // bytes of records kept in memory; 0 is DefaultBudget
	Records  int   // how many are held at most; 0 is DefaultRecords
	MaxBytes int64 // size of the file at which it counts as full; 0 is no cap
	Log      *slog.Logger
	Now      func() time.Time // names files that are moved aside, and paces the log

	logPages int64 // checkpointMost in tests
}

// Store is a dht.Store in a SQLite file.
type Store struct {
	path string
	opts Options
	log  *slog.Logger

	requests chan *request
	quit     chan struct{}
	done     chan struct{}
	closing  sync.Once

	index   atomic.Pointer[index.Index]
	damaged atomic.Bool

	mu     sync.RWMutex // file: held for reading while it is used
	file   *handle
	health error
	closed error

	// The writer's.
	full       bool // as the log says of a disk that may be full off and on
	complained time.Time
	aside      bool // the corrupt file is, and no new one could be begun so far
}

var _ dht.Store = (*Store)(nil)

// Open opens or makes the database at path. A corrupt one is moved aside, with an error logged, and a new one begun.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.Records == 0 {
		o.Records = DefaultRecords
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{
		path: path, opts: o, log: o.Log,
		requests: make(chan *request, maxGroup), quit: make(chan struct{}), done: make(chan struct{}),
	}
	err := s.openFile(ctx)
	if errors.Is(err, errCorrupt) {
		s.log.Error("the database is corrupt; it is moved aside and rebuilt from the mesh", "file", path, "error", err)
		if err = moveAside(path, s.asideSuffix()); err == nil {
			err = s.openFile(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	go s.run()
	return s, nil
}

func (s *Store) asideSuffix() string {
	return ".corrupt-" + s.opts.Now().UTC().Format("20060102T150405.000000000")
}

func (s *Store) openFile(ctx context.Context) error {
	h, err := openHandle(ctx, s.path, s.opts)
	if err != nil {
		return err
	}
	x := index.New(s.opts.Budget)
	if err := classify(s.load(ctx, h, x)); err != nil {
		return errors.Join(err, h.close())
	}
	x.Settle()
	s.index.Store(x)
	s.mu.Lock()
	s.file = h
	s.mu.Unlock()
	return nil
}

// Get implements dht.Store.
func (s *Store) Get(t protocol.Table, owner protocol.ID, now time.Time) ([]byte, error) {
	for range 3 { // a record that is replaced while it is read is looked up again
		x := s.index.Load()
		raw, held := x.Bytes(t, owner, now)
		if raw != nil {
			return raw, nil
		}
		if !held {
			break
		}
		if r, ok := x.Get(t, owner, now); ok {
			if raw, ok := s.fetch(x, r); ok {
				return raw, nil
			}
		}
	}
	return nil, dht.ErrNotFound
}

// Select implements dht.Store.
func (s *Store) Select(q dht.Query, dst []dht.Item) (int, error) {
	if n, whole := s.index.Load().Items(q, dst); whole {
		return n, nil
	}
	s.Load([]dht.Query{q}, len(dst))
	refs := make([]index.Ref, len(dst))
	n := 0
	for range 3 { // a damaged or replaced row is out of the index when it is selected again
		x := s.index.Load()
		found := x.Select(q, refs)
		n = 0
		for _, r := range refs[:found] {
			raw := r.Raw
			if raw == nil {
				var ok bool
				if raw, ok = s.fetch(x, r); !ok {
					continue
				}
			}
			dst[n] = dht.Item{Owner: r.Owner, Raw: raw}
			n++
		}
		if n == found {
			return n, nil
		}
	}
	return n, fmt.Errorf("sqlite: %s cannot be read whole", q.Table)
}

// Cached implements dht.Store.
func (s *Store) Cached(q dht.Query, n int) bool { return s.index.Load().Cached(q, n) }

// Whole implements dht.Store.
func (s *Store) Whole() bool { return s.index.Load().Whole() }

// Prefetch implements dht.Store.
func (s *Store) Prefetch(keys []dht.Key) { s.index.Load().Prefetch(keys) }

// Version implements dht.Store.
func (s *Store) Version(t protocol.Table, owner protocol.ID) (dht.Version, bool, error) {
	if v, ok := s.index.Load().Version(t, owner); ok {
		return v, true, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return dht.Version{}, false, dht.ErrClosed
	}
	v, ok, err := readMark(context.Background(), s.file.stmt.markRead, t, owner)
	return v, ok, s.readError(err)
}

// Digest implements dht.Store.
func (s *Store) Digest(t protocol.Table, from, to uint64) protocol.DigestPart {
	return s.index.Load().Digest(t, from, to)
}

// Counts implements dht.Store.
func (s *Store) Counts(d protocol.Domain) dht.Counts { return s.index.Load().Counts(d) }

// Setting implements dht.Store.
func (s *Store) Setting(name string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return nil, dht.ErrClosed
	}
	var v []byte
	err := s.file.stmt.settingGet.QueryRow(name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return v, s.readError(err)
}

func (s *Store) readError(err error) error {
	if err = classify(err); errors.Is(err, errCorrupt) {
		s.reportDamage()
	}
	return err
}

// Health implements dht.Store.
func (s *Store) Health() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.health
}

// complainEvery bounds how often a disk that is full off and on is complained of.
const complainEvery = time.Minute

func (s *Store) setHealth(err error) {
	if err == nil && s.health == nil { // nobody else writes it; readers need not make room for that
		return
	}
	s.mu.Lock()
	s.health = err
	s.mu.Unlock()
	now := s.opts.Now()
	switch {
	case err == nil && s.full:
		s.full = false
		s.log.Info("the database can be written again", "file", s.path)
	case err != nil && !s.full && now.Sub(s.complained) >= complainEvery:
		s.full, s.complained = true, now
		s.log.Error("the database cannot be written; reads go on, and writing is tried again with every store", "file", s.path, "error", err)
	}
}

// Close implements dht.Store.
func (s *Store) Close() error {
	s.closing.Do(func() { close(s.quit) })
	<-s.done
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}
