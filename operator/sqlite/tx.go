package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Tx is one transaction; its methods are the only statements there are. It must not outlive its function.
type Tx struct {
	ctx context.Context
	tx  *sql.Tx
}

// Update runs fn in the one writing transaction and commits, durably, if it returns nil.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return d.noted(run(ctx, d.write, fn))
}

// View runs fn on a consistent snapshot.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error { return run(ctx, d.read, fn) }

func run(ctx context.Context, db *sql.DB, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return failed(err)
	}
	if err := fn(&Tx{ctx, tx}); err != nil {
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
			return errors.Join(err, rerr)
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return failed(err)
	}
	return nil
}

func (t *Tx) exec(query string, args ...any) error {
	_, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return failed(err)
	}
	return nil
}

// execOne is exec for a statement that must meet a row.
func (t *Tx) execOne(query string, args ...any) error {
	r, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return failed(err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return failed(err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}

type scanner interface{ Scan(...any) error }

func one[T any](t *Tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(t.tx.QueryRowContext(t.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, ErrNotFound
	}
	if err != nil {
		return v, failed(err)
	}
	return v, nil
}

func all[T any](t *Tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, failed(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, failed(err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err)
	}
	return out, nil
}

func scanInt(s scanner) (n int64, err error) {
	err = s.Scan(&n)
	return n, err
}

// fixed copies a BLOB into an array of just that length.
type fixed []byte

func (f fixed) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("%d bytes expected", len(f))
	}
	copy(f, b)
	return nil
}

// stamp reads milliseconds; 0 is the zero time.
type stamp struct{ t *time.Time }

func (s stamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return errors.New("time expected")
	}
	*s.t = time.Time{}
	if n != 0 {
		*s.t = time.UnixMilli(n)
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// list is JSON text of a slice.
type list[T any] struct{ v *[]T }

func (l list[T]) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return errors.New("JSON text expected")
	}
	return json.Unmarshal([]byte(s), l.v)
}

func listText[T any](v []T) (string, error) {
	if v == nil {
		v = []T{}
	}
	b, err := json.Marshal(v)
	return string(b), err
}
