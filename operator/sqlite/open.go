// Package sqlite keeps the operator's registry in operator.db.
//
// One writer with immediate transactions and synchronous=FULL: what Update has returned from survives a kill and a power
// cut. Readers have a pool of their own. The schema is in numbered files, applied once each in order; PRAGMA user_version
// holds the number of the last.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

var (
	// ErrLooseMode marks a database that others than its owner may read: it holds the domains' secrets.
	ErrLooseMode = errors.New("operator database is readable by others")
	// ErrNewer marks a database that a later version of this program wrote.
	ErrNewer = errors.New("operator database is of a newer version than this program")
	// ErrNotFound marks a row that is not there.
	ErrNotFound = errors.New("not found")
	// ErrNoRoom marks what failed because the disk is full or cannot be written. It passes by itself once there is room.
	ErrNoRoom = errors.New("the operator's database cannot be written (is the disk full?); nothing was changed")
)

//go:embed schema/*.sql
var schema embed.FS

const readers = 4

// DB is the open database. It is safe for concurrent use.
type DB struct {
	write, read *sql.DB

	// OnHealth hears of each write that failed for want of room, and, with nil, of the first that worked again. Set before use.
	OnHealth func(error)
	noRoom   atomic.Bool
}

// Create makes a new database at path with mode 0600; there must be no file yet.
func Create(ctx context.Context, path string) (*DB, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the operator database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("create the operator database: %w", err)
	}
	return Open(ctx, path)
}

// Open opens the database at path and brings its schema up to date.
func Open(ctx context.Context, path string) (*DB, error) {
	if err := checkMode(path); err != nil {
		return nil, err
	}
	uri, err := fileURI(path)
	if err != nil {
		return nil, err
	}
	d := &DB{}
	const common = "_pragma=busy_timeout(10000)&_pragma=foreign_keys(1)&_pragma=trusted_schema(0)"
	if d.write, err = sql.Open("sqlite", uri+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&"+common); err != nil {
		return nil, fmt.Errorf("open the operator database: %w", err)
	}
	d.write.SetMaxOpenConns(1)
	if err := d.check(ctx); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	if err := d.migrate(ctx); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	if d.read, err = sql.Open("sqlite", uri+"?mode=ro&"+common); err != nil {
		return nil, errors.Join(fmt.Errorf("open the operator database: %w", err), d.write.Close())
	}
	d.read.SetMaxOpenConns(readers)
	return d, nil
}

func checkMode(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open the operator database: %w", err)
	}
	if m := st.Mode().Perm(); m&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrLooseMode, path, m, path)
	}
	return nil
}

func fileURI(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open the operator database: %w", err)
	}
	p := filepath.ToSlash(abs)
	if p[0] != '/' {
		p = "/" + p // C:/… on Windows
	}
	return "file://" + (&url.URL{Path: p}).EscapedPath(), nil
}

// Close waits for running transactions and closes the database.
func (d *DB) Close() error { return errors.Join(d.read.Close(), d.write.Close()) }

// check reads the whole file, tables against their indexes too. Unlike node.db it cannot be had from anybody else.
func (d *DB) check(ctx context.Context) error {
	var line string
	if err := d.write.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&line); err != nil {
		return failed(err)
	}
	if line != "ok" {
		return fmt.Errorf("%w: %s; %s", ErrDamaged, line, mend)
	}
	return nil
}

// mend is what to do about damage.
const mend = "bring a backup back with `culvert operator restore`"

// failed tells want of room, which passes, and damage from other failures.
func failed(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_NOMEM:
			return fmt.Errorf("%w: %w", ErrNoRoom, err)
		case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w; %s", ErrDamaged, err, mend)
		}
	}
	return fmt.Errorf("operator database: %w", err)
}

func (d *DB) noted(err error) error {
	full := errors.Is(err, ErrNoRoom)
	if (full || err == nil) && (d.noRoom.Swap(full) || full) && d.OnHealth != nil {
		d.OnHealth(err)
	}
	return err
}

func (d *DB) migrate(ctx context.Context) error {
	files, err := fs.Glob(schema, "schema/*.sql")
	if err != nil {
		return fmt.Errorf("operator database schema: %w", err)
	}
	return d.Update(ctx, func(t *Tx) error {
		var have int
		if err := t.tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
			return fmt.Errorf("operator database schema: %w", err)
		}
		if have > len(files) {
			return fmt.Errorf("%w: schema %d, this program knows %d; update culvert", ErrNewer, have, len(files))
		}
		for n := have; n < len(files); n++ {
			text, err := schema.ReadFile(files[n])
			if err != nil {
				return fmt.Errorf("operator database schema: %w", err)
			}
			if _, err := t.tx.ExecContext(ctx, string(text)+fmt.Sprintf("\nPRAGMA user_version = %d;", n+1)); err != nil {
				return fmt.Errorf("operator database schema %s: %w", files[n], err)
			}
		}
		return nil
	})
}
