package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

//go:embed query/*.sql
var queryFiles embed.FS

// errCorrupt marks a file that SQLite cannot make sense of.
var errCorrupt = errors.New("sqlite: file is corrupt")

// lookers is how many look for a single record, a mark or a setting at once.
const lookers = 4

// pragmas are in the DSN because one given by Exec would reach a single pooled connection. A connection caches up to 8 MiB of
// pages: of the trees of a million records, all but the leaves.
const pragmas = "_pragma=cache_size(-8192)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=trusted_schema(0)&_pragma=cell_size_check(1)"

func dsn(path, more string) string {
	return "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + pragmas + more
}

// handle is one opened file: the writer's connection, the readers' pool and the statements.
type handle struct {
	write *sql.DB
	read  *sql.DB
	check *sql.DB // copies the log beside the writer
	stmt  statements

	readDSN string
	readers *readers

	last        int64 // row in use; the writer's
	checkpoints *checkpointer
}

func openHandle(ctx context.Context, path string, o Options) (_ *handle, err error) {
	h := &handle{readers: newReaders()}
	defer func() {
		if err != nil {
			h.close()
			err = classify(err)
		}
	}()
	if err := create(path); err != nil {
		return nil, err
	}
	more := "&_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(0)"
	if o.MaxBytes > 0 {
		more += "&_pragma=max_page_count(" + strconv.FormatInt(max(o.MaxBytes/4096, 16), 10) + ")"
	}
	if h.write, err = sql.Open("sqlite", dsn(path, more)); err != nil {
		return nil, err
	}
	h.write.SetMaxOpenConns(1)
	var check string
	if err := h.write.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&check); err != nil {
		return nil, err
	}
	if check != "ok" {
		return nil, fmt.Errorf("%w: %s", errCorrupt, check)
	}
	if err := migrate(ctx, h.write); err != nil {
		return nil, err
	}
	h.readDSN = dsn(path, "&mode=ro")
	if h.read, err = sql.Open("sqlite", h.readDSN); err != nil {
		return nil, err
	}
	h.read.SetMaxOpenConns(lookers)
	h.read.SetMaxIdleConns(lookers)
	if h.check, err = sql.Open("sqlite", dsn(path, "&_pragma=synchronous(FULL)&_pragma=wal_autocheckpoint(0)")); err != nil {
		return nil, err
	}
	h.check.SetMaxOpenConns(1)
	h.checkpoints = startCheckpoints(h, cmp.Or(o.logPages, checkpointMost))
	return h, h.stmt.prepare(ctx, h)
}

// create makes the file 0600 before SQLite would make it, and its companions, with looser modes.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// migrate applies the numbered schema files that the file has not seen.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Glob(schemaFiles, "schema/*.sql") // in order of name
	if err != nil {
		return err
	}
	var have int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return err
	}
	if have > len(files) {
		return fmt.Errorf("sqlite: database has schema %d, this version knows %d: run the newer version", have, len(files))
	}
	for i, f := range files[have:] {
		text, err := schemaFiles.ReadFile(f)
		if err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		// PRAGMA takes no parameters; the number is our own.
		_, err = tx.ExecContext(ctx, string(text)+";PRAGMA user_version = "+strconv.Itoa(have+i+1))
		if err == nil {
			err = tx.Commit()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("sqlite: apply %s: %w", f, err), tx.Rollback())
		}
	}
	return nil
}

func (h *handle) close() error {
	if h.checkpoints != nil {
		h.checkpoints.close()
	}
	h.stmt.close()
	err := h.readers.close()
	if h.check != nil {
		err = errors.Join(err, h.check.Close())
	}
	if h.read != nil {
		err = errors.Join(err, h.read.Close())
	}
	if h.write != nil {
		err = errors.Join(err, h.write.Close())
	}
	return err
}

func query(name string) (string, error) {
	b, err := queryFiles.ReadFile("query/" + name + ".sql")
	return strings.TrimSpace(string(b)), err
}

// classify tells damage, which a new file cures, and lack of room, which time cures, from other failures.
func classify(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", errCorrupt, err)
	case lib.SQLITE_FULL, lib.SQLITE_IOERR, lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_NOMEM:
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return err
}

// misfit is for statements made for the schema that migrate has left: where one does not fit it, its text has changed on disk.
func misfit(err error) error {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) && e.Code()&0xff == lib.SQLITE_ERROR {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return err
}

// moveAside renames the damaged file and what belongs to it, so that it can be looked at.
func moveAside(path, suffix string) error {
	to := path + suffix
	if err := os.Rename(path, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+s, to+s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
