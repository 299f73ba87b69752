package echo

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver
)

const (
	rows = 10_000
	// stride visits the rows in an order that is not theirs; it has no factor in common with their number.
	stride = 7919
)

// table is a SQLite database of rows with a key and 32 bytes, and one SELECT.
type table struct {
	db  *sql.DB
	get *sql.Stmt
}

// newTable fills a file.
func newTable(ctx context.Context, file string) (t *table, err error) {
	t = &table{}
	if t.db, err = sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"); err != nil {
		return nil, fmt.Errorf("table of the echo: %w", err)
	}
	t.db.SetMaxOpenConns(1)
	if err := t.fill(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("table of the echo: %w", err), t.db.Close())
	}
	return t, nil
}

func (t *table) fill(ctx context.Context) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB NOT NULL) STRICT"); err != nil {
		return err
	}
	for k := range uint64(rows) {
		v := valueOf(k)
		if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (?, ?)", int64(k), v[:]); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	t.get, err = t.db.PrepareContext(ctx, "SELECT v FROM t WHERE k = ?")
	return err
}

func valueOf(k uint64) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, k)) }

// respond puts the row that the number stands for into the datagram.
func (t *table) respond(b []byte) error {
	if len(b) != Size {
		return errBytes
	}
	k := binary.BigEndian.Uint64(b) * stride % rows
	var v []byte
	if err := t.get.QueryRow(int64(k)).Scan(&v); err != nil {
		return fmt.Errorf("row %d: %w", k, err)
	}
	copy(b[8:], v)
	return nil
}

func (t *table) close() error { return errors.Join(t.get.Close(), t.db.Close()) }

// rowAsker asks for rows.
type rowAsker struct{ plain }

func (rowAsker) Check(b []byte) error {
	if len(b) != Size {
		return errBytes
	}
	if v := valueOf(binary.BigEndian.Uint64(b) * stride % rows); string(b[8:40]) != string(v[:]) {
		return errBytes
	}
	return nil
}
