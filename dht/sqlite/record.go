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
func checkRow(t protocol.Table, owner, raw, sum []byte) (*protocol.Record, bool) {
	if !bytes.Equal(sum, rowSum(t, raw)) {
		return nil, false
	}
	r, err := protocol.ParseRecord(raw)
	return r, err == nil && r.Table == t && bytes.Equal(r.Owner[:], owner)
}

// load fills the index from the file and drops the rows that have changed on disk.
func (s *Store) load(ctx context.Context, h *handle, x *index.Index) error {
	for t := range tableNames {
		if tableNames[t] == "" {
			continue
		}
		var damaged [][]byte
		rows, err := h.stmt.all[t].QueryContext(ctx)
		if err != nil {
			return err
		}
		for rows.Next() {
			var owner, raw, sum []byte
			if err = rows.Scan(&owner, &raw, &sum); err != nil {
				break
			}
			r, ok := checkRow(protocol.Table(t), owner, raw, sum)
			if !ok {
				damaged = append(damaged, owner)
				continue
			}
			x.Apply(r)
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, owner := range damaged {
			s.log.Error("a record has changed on disk and is dropped; it comes back by repair", "table", protocol.Table(t).String(), "file", s.path)
			if _, err := h.stmt.remove[t].ExecContext(ctx, owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// fetch reads the bytes of one version of a record from disk, and puts them back into memory.
func (s *Store) fetch(x *index.Index, r index.Ref) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return nil, false
	}
	var raw, sum []byte
	err := s.file.stmt.get[r.Table].QueryRow(r.Owner[:]).Scan(&raw, &sum)
	if err == nil {
		rec, ok := checkRow(r.Table, r.Owner[:], raw, sum)
		if ok && dht.VersionOf(rec) == r.Version && sha256.Sum256(raw) == r.Hash {
			x.Fill(index.Loaded{Ref: r, Raw: raw})
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

// readMark reads the high-water mark of what has expired; a damaged one counts as none.
func readMark(ctx context.Context, st *sql.Stmt, t protocol.Table, owner protocol.ID) (dht.Version, bool, error) {
	var epoch, sequence, until int64
	var sum []byte
	err := st.QueryRowContext(ctx, int64(t), owner[:]).Scan(&epoch, &sequence, &until, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return dht.Version{}, false, nil
	}
	if err != nil {
		return dht.Version{}, false, err
	}
	v := dht.Version{Epoch: uint64(epoch), Sequence: uint64(sequence)}
	if !bytes.Equal(sum, markSum(t, owner[:], v, until)) {
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
