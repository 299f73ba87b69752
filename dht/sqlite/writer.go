package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"culvert/dht"
	"culvert/dht/index"
	"culvert/protocol"
)

// maxGroup bounds how many requests one commit answers.
const maxGroup = 512

// request is one call that writes: work runs inside the shared transaction, applied after its commit. Both run on the
// writer's goroutine; work may run twice, when the group is tried again request by request.
type request struct {
	work    func(*group) error
	applied func(*index.Index)
	answer  chan error
	behind  bool // it may wait for others
}

// group is one transaction.
type group struct {
	tx     *sql.Tx
	stmt   *statements
	index  *index.Index
	staged map[stagedKey]placed // stored by this group, not yet in the index
	bound  map[*sql.Stmt]*sql.Stmt

	last    *int64 // row in use
	changed int    // rows, besides those staged
	room    int    // for records of new owners
}

// in is st inside the transaction.
func (g *group) in(st *sql.Stmt) *sql.Stmt {
	b := g.bound[st]
	if b == nil {
		b = g.tx.Stmt(st)
		g.bound[st] = b
	}
	return b
}

type stagedKey struct {
	table protocol.Table
	owner protocol.ID
}

// placed is a record and its row.
type placed struct {
	r   *protocol.Record
	row int64
}

// rowsAPage is about how many records share a page.
const rowsAPage = 8

// pages is about how many pages of the log the records of this group fill.
func (g *group) pages() int {
	type page struct {
		table protocol.Table
		at    int64
	}
	seen := make(map[page]struct{}, len(g.staged))
	for k, p := range g.staged {
		seen[page{k.table, p.row / rowsAPage}] = struct{}{}
	}
	return len(seen)
}

// run is the writer: it owns every write to the file until Close.
func (s *Store) run() {
	defer close(s.done)
	for {
		select {
		case r := <-s.requests:
			s.writeGroup(s.gather(r))
		case <-s.quit:
			for {
				select {
				case r := <-s.requests:
					s.writeGroup(s.gather(r))
					continue
				default:
				}
				break
			}
			s.mu.Lock()
			s.closed = s.file.close()
			s.file = nil
			s.mu.Unlock()
			return
		}
	}
}

// behindWait is for how long writes wait for company that nobody waits for.
const behindWait = 50 * time.Millisecond

func (s *Store) gather(first *request) []*request {
	reqs, hurry := []*request{first}, !first.behind
	var over <-chan time.Time
	for len(reqs) < maxGroup {
		select {
		case r := <-s.requests:
			reqs, hurry = append(reqs, r), hurry || !r.behind
			continue
		default:
		}
		if hurry {
			return reqs
		}
		if over == nil {
			t := time.NewTimer(behindWait)
			defer t.Stop()
			over = t.C
		}
		select {
		case r := <-s.requests:
			reqs, hurry = append(reqs, r), !r.behind
		case <-over:
			return reqs
		case <-s.quit:
			return reqs
		}
	}
	return reqs
}

func (s *Store) writeGroup(reqs []*request) {
	err := s.write(reqs)
	if err != nil && len(reqs) > 1 && !s.damaged.Load() {
		// One request's failure must not fail its neighbours.
		for _, r := range reqs {
			s.writeGroup([]*request{r})
		}
		return
	}
	switch {
	case err == nil:
		s.setHealth(nil)
	case errors.Is(err, errNoRoom):
		err = fmt.Errorf("%w: %w", dht.ErrReadOnly, err)
		s.setHealth(err)
	}
	for _, r := range reqs {
		if err == nil && r.applied != nil {
			r.applied(s.index.Load())
		}
		r.answer <- err // buffered: an asker that has gone away blocks nobody
	}
	s.file.checkpoints.look()
}

// write commits, into a new file where the old one is corrupt. The file is replaced by this goroutine only.
func (s *Store) write(reqs []*request) error {
	var err error
	if s.damaged.Load() {
		err = s.rebuild(errCorrupt)
	}
	if err == nil {
		err = classify(commit(s.file, s.index.Load(), reqs, s.opts.Records))
	}
	if errors.Is(err, errCorrupt) {
		if err = s.rebuild(err); err == nil {
			err = classify(commit(s.file, s.index.Load(), reqs, s.opts.Records))
		}
	}
	return err
}

func commit(h *handle, x *index.Index, reqs []*request, most int) (err error) {
	tx, err := h.write.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tx.Rollback() // its failure adds nothing: the connection is discarded
		}
	}()
	g := &group{tx: tx, stmt: &h.stmt, index: x, staged: make(map[stagedKey]placed), bound: make(map[*sql.Stmt]*sql.Stmt),
		last: &h.last, room: most - x.Len()}
	for _, r := range reqs {
		if err := r.work(g); err != nil {
			return err
		}
	}
	h.checkpoints.changed += int64(g.pages() + g.changed)
	return tx.Commit()
}

func (s *Store) do(ctx context.Context, r *request) error {
	r.answer, r.behind = make(chan error, 1), dht.IsBehind(ctx)
	select {
	case <-s.quit:
		return dht.ErrClosed
	default:
	}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.quit:
		return dht.ErrClosed
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		select {
		case err := <-r.answer:
			return err
		default:
			return dht.ErrClosed // it came in after the writer's last look
		}
	}
}

// Put implements dht.Store. The caller computes what it can, since all wait for the one writer.
func (s *Store) Put(ctx context.Context, records []*protocol.Record) ([]dht.Result, error) {
	type putting struct {
		ready index.Prepared
		sum   []byte
		row   int64
	}
	out, l := make([]dht.Result, len(records)), make([]putting, len(records))
	for i, r := range records {
		l[i] = putting{ready: index.Prepare(r), sum: rowSum(r.Table, r.Raw())}
	}
	err := s.do(ctx, &request{
		work: func(g *group) (err error) {
			for i, r := range records {
				if out[i], l[i].row, err = g.put(r, l[i].sum); err != nil {
					return err
				}
			}
			return nil
		},
		applied: func(x *index.Index) {
			for i, p := range l {
				if out[i].Outcome == dht.Stored {
					x.Take(p.ready, p.row)
				}
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// put stores r, of which the row's sum is sum, if it is newer than what is held, and says in which row.
func (g *group) put(r *protocol.Record, sum []byte) (res dht.Result, row int64, err error) {
	k := stagedKey{r.Table, r.Owner}
	res, known := g.index.Compare(r)
	row, _ = g.index.Row(r.Table, r.Owner)
	if at, ok := g.staged[k]; ok {
		p := at.r
		known, row = true, at.row
		switch {
		case r.Supersedes(p):
			res = dht.Result{Outcome: dht.Stored, Held: dht.VersionOf(r)}
		case p.Supersedes(r):
			res = dht.Result{Outcome: dht.Superseded, Held: dht.VersionOf(p)}
		case r.Conflicts(p):
			res = dht.Result{Outcome: dht.Conflict, Held: dht.VersionOf(p)}
		default:
			res = dht.Result{Outcome: dht.Same, Held: dht.VersionOf(p)}
		}
	}
	if res.Outcome != dht.Stored {
		return res, 0, nil
	}
	if !known {
		v, marked, err := readMark(context.Background(), g.in(g.stmt.markGet), r.Table, r.Owner)
		if err != nil {
			return res, 0, err
		}
		if marked && !v.Less(dht.VersionOf(r)) {
			return dht.Result{Outcome: dht.Superseded, Held: v}, 0, nil
		}
		if g.room <= 0 {
			return dht.Result{Outcome: dht.NoRoom}, 0, nil
		}
		g.room--
	}
	if row == 0 {
		*g.last++ // never one that was in use: a reader may still come with it
		row = *g.last
	}
	if _, err := g.in(g.stmt.put[r.Table]).Exec(row, r.Raw(), sum); err != nil {
		return res, 0, err
	}
	g.staged[k] = placed{r, row}
	return res, row, nil
}

// expireBatch bounds one transaction of Expire, so that Puts get their turn between.
const expireBatch = 500

// Expire implements dht.Store.
func (s *Store) Expire(ctx context.Context, now time.Time) (int, error) {
	total := 0
	for {
		var due []index.Ref
		err := s.do(ctx, &request{
			work: func(g *group) error {
				due = due[:0]
				if _, err := g.in(g.stmt.markExpire).Exec(now.UnixMilli()); err != nil {
					return err
				}
				for _, r := range g.index.Due(now, expireBatch) {
					if _, ok := g.staged[stagedKey{r.Table, r.Owner}]; ok {
						continue // replaced within this very group
					}
					if err := g.expire(r); err != nil {
						return err
					}
					due = append(due, r)
				}
				return nil
			},
			applied: func(x *index.Index) {
				for _, r := range due {
					x.Remove(r.Table, r.Owner, r.Version)
				}
			},
		})
		if err != nil {
			return total, err
		}
		total += len(due)
		if len(due) < expireBatch {
			return total, nil
		}
	}
}

func (g *group) expire(r index.Ref) error {
	g.changed += 2
	until := markUntil(r.Table, r.Expires)
	_, err := g.in(g.stmt.markUpsert).Exec(int64(r.Table), r.Owner[:], int64(r.Version.Epoch), int64(r.Version.Sequence),
		until, markSum(r.Table, r.Owner[:], r.Version, until))
	if err != nil {
		return err
	}
	_, err = g.in(g.stmt.remove[r.Table]).Exec(r.Row)
	return err
}

// NextSequence implements dht.Store.
func (s *Store) NextSequence(ctx context.Context, t protocol.Table, owner protocol.ID, floor uint64) (uint64, error) {
	if floor >= 1<<62 {
		return 0, fmt.Errorf("sqlite: sequence floor %d is out of range", floor)
	}
	var n int64
	err := s.do(ctx, &request{work: func(g *group) error {
		return g.in(g.stmt.sequenceNext).QueryRow(int64(t), owner[:], int64(floor)).Scan(&n)
	}})
	if err != nil {
		return 0, err // n is the writer's: it may still be at it when the caller no longer waits
	}
	return uint64(n), nil
}

// SetSetting implements dht.Store.
func (s *Store) SetSetting(ctx context.Context, name string, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return s.do(ctx, &request{work: func(g *group) error {
		_, err := g.in(g.stmt.settingSet).Exec(name, value)
		return err
	}})
}
