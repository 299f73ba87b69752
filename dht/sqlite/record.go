package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"time"

	"culvert/dht"
	"culvert/dht/index"
	"culvert/protocol"
)

func rowSum(t protocol.Table, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write([]byte{byte(t)})
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:16]
}

// checkRow parses a row's record if the row is as it was written.
func checkRow(t protocol.Table, raw, sum []byte) (*protocol.Record, bool) {
	if !bytes.Equal(sum, rowSum(t, raw)) {
		return nil, false
	}
	r, err := protocol.ParseRecord(raw)
	return r, err == nil && r.Table == t
}

// rowMost is above every row that is given out.
const rowMost = 1 << 62

// load fills the index from the file and drops the rows that have changed on disk.
func (s *Store) load(ctx context.Context, h *handle, x *index.Index) error {
	for t := range protocol.TableEnd {
		if tableNames[t] == "" {
			continue
		}
		damaged, err := loadTable(ctx, h, x, t)
		if err != nil {
			return err
		}
		for _, row := range damaged {
			s.log.Error("a record has changed on disk and is dropped; it comes back by repair", "table", t.String(), "file", s.path)
			if _, err := h.stmt.remove[t].ExecContext(ctx, row); err != nil {
				return err
			}
		}
	}
	return s.dropMarked(ctx, h, x)
}

// loadTable returns the rows that are not as they were written, and all but the newest of an owner: only damage leaves several.
func loadTable(ctx context.Context, h *handle, x *index.Index, t protocol.Table) (damaged []int64, err error) {
	rows, err := h.stmt.all[t].QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	var raw, sum sql.RawBytes
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row, &raw, &sum); err != nil {
			return nil, err
		}
		r, ok := checkRow(t, bytes.Clone(raw), sum)
		if !ok || row <= 0 || row >= rowMost {
			damaged = append(damaged, row)
			continue
		}
		h.last = max(h.last, row)
		if res, known := x.Compare(r); known {
			if res.Outcome != dht.Stored {
				damaged = append(damaged, row)
				continue
			}
			older, _ := x.Row(t, r.Owner)
			damaged = append(damaged, older)
		}
		x.ApplyAt(r, row)
	}
	return damaged, nil
}

// dropMarked drops records that are no newer than the mark of their owner: damage may have kept one from being removed.
func (s *Store) dropMarked(ctx context.Context, h *handle, x *index.Index) (err error) {
	var stale []index.Ref
	rows, err := h.stmt.markAll.QueryContext(ctx)
	if err != nil {
		return err
	}
	for rows.Next() {
		var tbl int64
		var owner sql.RawBytes
		var m mark
		if err = rows.Scan(&tbl, &owner, &m.epoch, &m.sequence, &m.until, &m.sum); err != nil {
			break
		}
		t, id := protocol.Table(tbl), protocol.ID{}
		if tbl <= 0 || tbl >= int64(protocol.TableEnd) || copy(id[:], owner) != len(owner) {
			continue
		}
		marked, ok := m.version(t, id)
		if !ok {
			continue
		}
		if v, held := x.Version(t, id); held && !marked.Less(v) {
			r, _ := x.Held(t, dht.Held{Owner: id, Version: v})
			stale = append(stale, r)
		}
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, r := range stale {
		s.log.Error("a record that had gone is on disk again and is dropped", "table", r.Table.String(), "file", s.path)
		if _, err := h.stmt.remove[r.Table].ExecContext(ctx, r.Row); err != nil {
			return err
		}
		x.Remove(r.Table, r.Owner, r.Version)
	}
	return nil
}

// fetch reads the bytes of one version of a record from disk, and puts them back into memory.
func (s *Store) fetch(x *index.Index, r index.Ref) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil || s.index.Load() != x { // a new file numbers its rows anew
		return nil, false
	}
	var raw, sum []byte
	err := s.file.stmt.get[r.Table].QueryRow(r.Row).Scan(&raw, &sum)
	if err == nil {
		rec, ok := checkRow(r.Table, raw, sum)
		ok = ok && rec.Owner == r.Owner
		if ok && dht.VersionOf(rec) == r.Version && sha256.Sum256(raw) == r.Hash {
			x.Fill(r.Read(raw))
			return raw, true
		}
		if ok {
			return nil, false // replaced since; the caller looks again
		}
	}
	switch err = classify(err); {
	case err == nil, errors.Is(err, sql.ErrNoRows):
		// A row that is changed or missing while the index names this very version: only damage does that.
		if v, held := x.Version(r.Table, r.Owner); held && v == r.Version {
			s.log.Error("a record has changed on disk and is not served; it comes back by repair", "table", r.Table.String(), "file", s.path)
			x.Remove(r.Table, r.Owner, r.Version)
		}
	case errors.Is(err, errCorrupt):
		s.reportDamage()
	case s.damaged.Load(): // known, and no new file so far
	default:
		s.log.Error("a record cannot be read", "table", r.Table.String(), "file", s.path, "error", err)
	}
	return nil, false
}

func markSum(t protocol.Table, owner []byte, v dht.Version, until int64) []byte {
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], v.Epoch)
	binary.BigEndian.PutUint64(b[8:], v.Sequence)
	binary.BigEndian.PutUint64(b[16:], uint64(until))
	return rowSum(t, owner, b[:])
}

// mark is a row of that table.
type mark struct {
	epoch, sequence, until int64
	sum                    []byte
}

// version is what a mark says; a damaged one says nothing.
func (m mark) version(t protocol.Table, owner protocol.ID) (v dht.Version, ok bool) {
	v = dht.Version{Epoch: uint64(m.epoch), Sequence: uint64(m.sequence)}
	return v, bytes.Equal(m.sum, markSum(t, owner[:], v, m.until))
}

// readMark reads the high-water mark of what has expired.
func readMark(ctx context.Context, st *sql.Stmt, t protocol.Table, owner protocol.ID) (dht.Version, bool, error) {
	var m mark
	err := st.QueryRowContext(ctx, int64(t), owner[:]).Scan(&m.epoch, &m.sequence, &m.until, &m.sum)
	if errors.Is(err, sql.ErrNoRows) {
		return dht.Version{}, false, nil
	}
	if err != nil {
		return dht.Version{}, false, err
	}
	v, ok := m.version(t, owner)
	if !ok {
		return dht.Version{}, false, nil
	}
	return v, true, nil
}

func markUntil(t protocol.Table, expires time.Time) int64 {
	if t != protocol.TableNodeInfo {
		return 0
	}
	return expires.Add(dht.MarkKeep).UnixMilli()
}
