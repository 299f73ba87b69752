package messages

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"culvert/bench/world"
	"culvert/dht"
	"culvert/dht/sqlite"
	"culvert/protocol"
)

// recordsArg says what the part holds and where.
type recordsArg struct {
	Records int // of each of Node and NodeInfo
	Dir     string
}

// recordsAt is where it is served, each from a database of its own: with all in memory, with next to nothing, and by a plain echo
// with a SELECT a request.
type recordsAt struct {
	Warm, Cold, Select netip.AddrPort
}

// coldBudget is far less than is asked for until the same is asked for again, and more than one batch.
const coldBudget = 1 << 20

// idsFile is where the owners of the records are told the load.
const idsFile = "owners"

// Records is the part that serves records as a super-node does: from memory, from the disk, and Puts.
func Records(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var a recordsArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	warm, cold := filepath.Join(a.Dir, "warm.db"), filepath.Join(a.Dir, "cold.db")
	if err := fillFile(ctx, w, warm, a); err != nil {
		return err
	}
	if err := copyFile(warm, cold); err != nil {
		return err
	}
	var at recordsAt
	var s serving
	defer func() { err = errors.Join(err, s.close()) }()
	for _, x := range []struct {
		path   string
		budget int64
		at     *netip.AddrPort
	}{{warm, 0, &at.Warm}, {cold, coldBudget, &at.Cold}} {
		store, err := sqlite.Open(ctx, x.path, sqlite.Options{Budget: x.budget})
		if err != nil {
			return err
		}
		s.onClose(store.Close)
		n, err := newServer(w, store)
		if err != nil {
			return err
		}
		if *x.at, err = s.add(single, n.loop); err != nil {
			return err
		}
	}
	plain := filepath.Join(a.Dir, "select.db")
	if err := makeSelect(ctx, plain, cold); err != nil {
		return err
	}
	echo, err := openSelect(ctx, plain, filepath.Join(a.Dir, idsFile))
	if err != nil {
		return err
	}
	s.onClose(echo.close)
	if at.Select, err = s.add(bare, echo.loop); err != nil {
		return err
	}
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func fillFile(ctx context.Context, w *world.World, path string, a recordsArg) (err error) {
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	ids, err := fill(ctx, w, store, a.Records)
	if err != nil {
		return err
	}
	b := make([]byte, 0, len(ids)*protocol.IDSize)
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return os.WriteFile(filepath.Join(a.Dir, idsFile), b, 0o600)
}

func copyFile(from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

func readIDs(path string) ([]protocol.ID, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ids := make([]protocol.ID, len(b)/protocol.IDSize)
	for i := range ids {
		ids[i] = protocol.ID(b[i*protocol.IDSize:])
	}
	return ids, nil
}

// fill stores n Node records and as many NodeInfos, and returns their owners.
func fill(ctx context.Context, w *world.World, store dht.Store, n int) ([]protocol.ID, error) {
	ids, l := make([]protocol.ID, n), make([]*protocol.Record, 2*n)
	if err := parallel(n, func(i int) error { return fillOne(w, i, &ids[i], l[2*i:2*i+2]) }); err != nil {
		return nil, err
	}
	return ids, fillStore(ctx, store, l)
}

// fillStore stores records in the order of a table's key, in which most share a page.
func fillStore(ctx context.Context, store dht.Store, l []*protocol.Record) error {
	slices.SortFunc(l, func(a, b *protocol.Record) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), a.Owner.Compare(b.Owner))
	})
	for part := range slices.Chunk(l, 5000) {
		if _, err := store.Put(ctx, part); err != nil {
			return fmt.Errorf("fill the store: %w", err)
		}
	}
	return nil
}

func fillOne(w *world.World, i int, id *protocol.ID, l []*protocol.Record) error {
	p, raw, err := w.Certify("record", i)
	if err != nil {
		return err
	}
	if l[0], err = protocol.ParseRecord(raw); err != nil {
		return err
	}
	*id = l[0].Owner
	r := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "culvert benchmark nonce %d", i)))
	if raw, err = w.InfoOf(p, *id, i/perLocation, 1, w.Now, r); err != nil {
		return err
	}
	l[1], err = protocol.ParseRecord(raw)
	return err
}

// parallel does n things on all cores.
func parallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for c := range errs {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += len(errs) {
				errs[c] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
