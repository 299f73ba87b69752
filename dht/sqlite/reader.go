package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"culvert/dht/index"
	"culvert/protocol"
)

// reader is a connection that reads records, used by one at a time. It is the driver's own, since database/sql would copy each row
// once more and take three locks for it: a third of what a row costs.
type reader struct {
	conn driver.Conn
	some map[someKey]driver.StmtQueryContext
	args [loadMost]driver.NamedValue
	dest [1]driver.Value
}

// someKey is a SELECT of so many rows of a table.
type someKey struct {
	table protocol.Table
	rows  int
}

// withReader lends f a reader that nobody else uses.
func (h *handle) withReader(f func(*reader) error) error {
	return h.readers.with(func() (*reader, error) {
		conn, err := h.read.Driver().Open(h.readDSN)
		if err != nil {
			return nil, err
		}
		return &reader{conn: conn}, nil
	}, f)
}

func (r *reader) close() (err error) {
	for _, st := range r.some {
		err = errors.Join(err, st.(driver.Stmt).Close())
	}
	return errors.Join(err, r.conn.Close())
}

// parameters of a statement, n of them.
func parameters(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// ofSome is the SELECT of n rows of a table, prepared when it is needed first.
func (r *reader) ofSome(t protocol.Table, n int) (driver.StmtQueryContext, error) {
	k := someKey{t, n}
	if st := r.some[k]; st != nil {
		return st, nil
	}
	text, err := query("record_some")
	if err != nil {
		return nil, err
	}
	text = strings.NewReplacer("{table}", tableNames[t], "{ids}", parameters(n)).Replace(text)
	prepared, err := r.conn.Prepare(text)
	if err != nil {
		return nil, err
	}
	st, ok := prepared.(driver.StmtQueryContext)
	if !ok {
		return nil, errors.Join(fmt.Errorf("sqlite: the driver's %T takes no context", prepared), prepared.Close())
	}
	if r.some == nil {
		r.some = make(map[someKey]driver.StmtQueryContext)
	}
	r.some[k] = st
	return st, nil
}

// each gives the rows of l, at most loadMost of one table, to take. The driver makes the bytes of each anew: they are taker's.
// Which row each is of is not asked: that is an allocation more.
func (r *reader) each(l []index.Miss, take func(raw []byte)) (err error) {
	i := 0
	for loadSizes[i] < len(l) {
		i++
	}
	args := r.args[:loadSizes[i]]
	for i := range args {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: l[min(i, len(l)-1)].Row}
	}
	st, err := r.ofSome(l[0].Table, len(args))
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, rows.Close())
		r.dest = [1]driver.Value{}
	}()
	for {
		if err := rows.Next(r.dest[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if raw, ok := r.dest[0].([]byte); ok {
			take(raw)
		}
	}
}
