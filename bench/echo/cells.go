package echo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc"
)

const part = "echo"

// Parts are the processes of this package.
func Parts() map[string]proc.Part { return map[string]proc.Part{part: server} }

// places are where the echoes are, by name of the cell.
type places map[string]netip.AddrPort

// kinds of work, in the order of the table.
const (
	plainEcho  = "plain UDP echo"
	sealedEcho = "AES-256-GCM sealed echo"
	signedEcho = "Ed25519 both ways"
	selectEcho = "echo with an SQLite SELECT"
)

// name is a cell's: the kind of work and the way.
func name(kind string, way Way) string { return kind + ", " + way.String() }

// kinds are what is measured by which ways.
var kinds = []struct {
	name string
	ways []Way
}{
	{plainEcho, []Way{One, Batch, GSO}},
	{sealedEcho, []Way{One, Batch, GSO}},
	{signedEcho, []Way{One, Batch, GSO}},
	{selectEcho, []Way{One, Batch}},
}

// Grid is how the cells are named: ROW, COLUMN.
func Grid() (rows, columns []string) {
	for _, k := range kinds {
		rows = append(rows, k.name)
	}
	return rows, []string{One.String(), Batch.String(), GSO.String()}
}

// server is the part that answers: its argument is a folder of its own.
func server(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var dir string
	if err := json.Unmarshal(arg, &dir); err != nil {
		return err
	}
	t, err := newTable(ctx, filepath.Join(dir, "echo.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	var (
		wg      sync.WaitGroup
		sockets []*socket
		at      = make(places)
		failed  = make(chan error, 16)
	)
	defer func() {
		for _, s := range sockets {
			_ = s.close()
		}
		wg.Wait()
	}()
	for _, k := range kinds {
		for _, way := range k.ways {
			respond, err := respondersOf(k.name, t)
			if err != nil {
				return err
			}
			s, err := listen(way)
			if errors.Is(err, ErrNoGSO) {
				continue
			}
			if err != nil {
				return err
			}
			sockets = append(sockets, s)
			at[name(k.name, way)] = s.addr()
			wg.Go(func() { failed <- serve(s, respond) })
		}
	}
	if err := ready(at); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// respondersOf makes a socket's own: none is used by two loops.
func respondersOf(kind string, t *table) (responder, error) {
	switch kind {
	case sealedEcho:
		s, err := newSealed()
		if err != nil {
			return nil, err
		}
		return s.respond, nil
	case signedEcho:
		return newSigned(1).respond, nil
	case selectEcho:
		return t.respond, nil
	}
	return plainRespond, nil
}

func askerOf(kind string) (Asker, error) {
	switch kind {
	case sealedEcho:
		return newSealed()
	case signedEcho:
		return newSigned(0), nil
	case selectEcho:
		return rowAsker{}, nil
	}
	return plain{}, nil
}

// Bench is the process that answers.
type Bench struct {
	dir   string
	child *proc.Child
	at    places
}

// Start starts it.
func Start(ctx context.Context) (b *Bench, err error) {
	b = &Bench{}
	if b.dir, err = os.MkdirTemp("", "culvert-bench-"); err != nil {
		return nil, err
	}
	if b.child, err = proc.Start(ctx, part, b.dir, &b.at); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// Missing says in words what this system has not.
func (b *Bench) Missing() (l []string) {
	if _, ok := b.at[name(plainEcho, GSO)]; !ok {
		l = append(l, fmt.Sprintf("%s: %v; those cells are left out", GSO, ErrNoGSO))
	}
	return l
}

// Cells are the references of round trips; each is beside the plain echo by recvmmsg.
func (b *Bench) Cells() (l []measure.Cell, err error) {
	for _, k := range kinds {
		for _, way := range k.ways {
			n := name(k.name, way)
			to, ok := b.at[n]
			if !ok {
				continue
			}
			a, err := askerOf(k.name)
			if err != nil {
				return nil, err
			}
			l = append(l, Cell(n, to, way, a))
		}
	}
	return l, nil
}

// Cell asks a server, beside the plain echo by recvmmsg.
func Cell(cell string, to netip.AddrPort, way Way, a Asker) measure.Cell {
	c := measure.Cell{Name: cell, Unit: "/s", Reference: name(plainEcho, Batch)}
	if cell == c.Reference {
		c.Reference = ""
	}
	c.Run = func(ctx context.Context, d time.Duration) (measure.Sample, error) { return Drive(ctx, to, way, a, d) }
	return c
}

// Close ends it.
func (b *Bench) Close() error { return errors.Join(b.child.Close(), os.RemoveAll(b.dir)) }
