package messages

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver that culvert uses

	"culvert/protocol"
	"culvert/protocol/carrier"
)

// selectEcho is the plain echo, with a SELECT of one row by its primary key for every request: what a server does that asks its
// database each time. It has a database of its own, of which the key is the owner.
type selectEcho struct {
	db  *sql.DB
	get *sql.Stmt
	ids []protocol.ID
}

// selectTable takes its rows from the records of culvert. By owner, without rows, is the faster way to keep them for this.
const selectTable = `
CREATE TABLE node (owner BLOB NOT NULL PRIMARY KEY, raw BLOB NOT NULL) STRICT, WITHOUT ROWID;
ATTACH ?1 AS culvert;
INSERT INTO node SELECT substr(raw, 1 + ?2, ?3), raw FROM culvert.node ORDER BY 1`

func makeSelect(ctx context.Context, path, from string) error {
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, selectTable, from, recordOwner, protocol.IDSize)
	return errors.Join(err, db.Close())
}

func openSelect(ctx context.Context, path, ids string) (_ *selectEcho, err error) {
	e := &selectEcho{}
	if e.ids, err = readIDs(ids); err != nil {
		return nil, err
	}
	if e.db, err = sql.Open("sqlite", "file:"+path+"?mode=ro"); err != nil {
		return nil, err
	}
	e.db.SetMaxOpenConns(1)
	if e.get, err = e.db.PrepareContext(ctx, "SELECT raw FROM node WHERE owner = ?1"); err != nil {
		return nil, errors.Join(err, e.db.Close())
	}
	return e, nil
}

func (e *selectEcho) close() error { return errors.Join(e.get.Close(), e.db.Close()) }

func (e *selectEcho) loop(conn conn) error {
	var failed error
	err := serveEcho(conn, func(in []byte, out *carrier.Message) {
		if failed != nil || len(in) < 8 {
			return
		}
		id := e.ids[binary.BigEndian.Uint64(in)*stride%uint64(len(e.ids))]
		var raw []byte
		if failed = e.get.QueryRow(id[:]).Scan(&raw); failed == nil {
			out.N = copy(out.Buf, in)
		}
	})
	if failed != nil {
		return fmt.Errorf("echo with a SELECT: %w", failed)
	}
	return err
}
