package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
)

// ErrDamaged marks a database file that SQLite finds fault with.
var ErrDamaged = errors.New("operator database is damaged")

// Copy writes a consistent copy of the database at from to a new file. It only reads, so another process may be writing.
func Copy(ctx context.Context, from, to string) (err error) {
	if err := checkMode(from); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("copy the operator database: %w", err)
	}
	if err := f.Close(); err != nil { // VACUUM INTO accepts an empty file, and keeps its mode
		return fmt.Errorf("copy the operator database: %w", err)
	}
	db, err := openReader(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("copy the operator database: %w", err)
	}
	return nil
}

func openReader(path string) (*sql.DB, error) {
	uri, err := fileURI(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", uri+"?mode=ro&_pragma=busy_timeout(10000)&_pragma=trusted_schema(0)")
	if err != nil {
		return nil, fmt.Errorf("open the operator database: %w", err)
	}
	return db, nil
}

// Check has SQLite look through the whole file.
func Check(ctx context.Context, path string) (err error) {
	db, err := openReader(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var text string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&text); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if text != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, text)
	}
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM pragma_foreign_key_check").Scan(&rows); err != nil || rows > 0 {
		return fmt.Errorf("%w: %d rows without their domain: %w", ErrDamaged, rows, err)
	}
	return nil
}
