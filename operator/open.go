package operator

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// Options are what Open takes from its surroundings; zero fields mean the system's clock, randomness and no log.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
	// LockWait is how long Open waits for another process to leave the directory: a command does after a moment.
	LockWait time.Duration
}

// Operator is an open operator: its authority, and, while Run runs, its part in the mesh.
type Operator struct {
	*Authority
	dir    string
	lock   *lock
	log    *slog.Logger
	trust  *protocol.Trust
	ctx    context.Context // ends with Close: for handlers, which have none of their own
	cancel context.CancelFunc
	closed sync.Once

	state  sync.Mutex
	mesh   Mesh // nil while Run does not run
	port   uint16
	record []byte
	busy   map[protocol.ID]time.Time // submissions in hand, or refused a moment ago

	healthMu   sync.Mutex
	full       bool // as the log says
	complained time.Time

	watcher  *watcher
	handOver *handOver
	auditor  *auditor
	handing  chan struct{} // the key is to be changed

	mapMu sync.Mutex
	pmap  *partition.Map // of the head that it was made from
}

// Open opens the operator in dir and locks it; ErrRunning says that another process has it.
func Open(ctx context.Context, dir string, opt Options) (_ *Operator, err error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Rand == nil {
		opt.Rand = rand.Reader
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(filepath.Join(dir, dbFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s; `culvert operator init` makes one, --data names another directory", ErrNotInitialised, dir)
	}
	lock, err := acquireWithin(ctx, dir, opt.LockWait)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	a := &Authority{now: opt.Now, rand: opt.Rand, wake: make(chan struct{}, 1), epoch: 1}
	if a.db, err = sqlite.Open(ctx, filepath.Join(dir, dbFile)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.db.Close()
		}
	}()
	if err := a.db.Update(ctx, func(tx *sqlite.Tx) error { return a.changeKeys(tx, dir) }); err != nil {
		return nil, err
	}
	if err := a.loadKeys(dir); err != nil {
		return nil, err
	}
	o := &Operator{Authority: a, handing: make(chan struct{}, 1), dir: dir, lock: lock, log: opt.Log, busy: make(map[protocol.ID]time.Time)}
	o.watcher, o.auditor = newWatcher(o), newAuditor(o)
	o.handOver = newHandOver(o, o.watcher)
	a.db.OnHealth = o.health
	if err := a.db.Update(ctx, o.load); err != nil {
		return nil, err
	}
	if err := a.writeCA(ctx, dir); err != nil {
		return nil, err
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o, nil
}

// complainEvery bounds how often a disk that is full off and on is complained of.
const complainEvery = time.Minute

// health is what the person who runs the operator must know.
func (o *Operator) health(err error) {
	o.healthMu.Lock()
	defer o.healthMu.Unlock()
	now := o.now()
	switch {
	case err == nil && o.full:
		o.full = false
		o.log.Info("the operator's database can be written again")
	case err != nil && !o.full && now.Sub(o.complained) >= complainEvery:
		o.full, o.complained = true, now
		o.log.Error("changes and enrolments are refused until there is room; what is known goes on being served", "directory", o.dir, "error", err)
	}
}

func (a *Authority) loadKeys(dir string) error {
	pair, err := key.Load(filepath.Join(dir, keysDir, operatorKeyFile))
	if err != nil {
		return err
	}
	a.keys, a.id = pair, protocol.NodeID(protocol.OperatorDomain, pair.Signing.Public())
	root, err := key.Load(filepath.Join(dir, keysDir, rootKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // offline, as it should be
	}
	if err != nil {
		return err
	}
	a.rootSigner = root.Signing
	return nil
}

// load reads the settings, renews the chain where it is time, and proves that key and database belong together.
func (o *Operator) load(tx *sqlite.Tx) error {
	a := o.Authority
	for name, use := range map[string]func([]byte) error{
		settingName:  func(b []byte) error { a.name = string(b); return nil },
		settingHTTPS: func(b []byte) error { a.https = string(b); return nil },
		settingRootKey: func(b []byte) error {
			if len(b) != key.Size {
				return fmt.Errorf("operator database: root key has %d bytes", len(b))
			}
			a.rootKey = key.Public(b)
			return nil
		},
	} {
		b, err := tx.Setting(name)
		if err != nil {
			return fmt.Errorf("operator database: setting %s: %w", name, err)
		}
		if err := use(b); err != nil {
			return err
		}
	}
	a.root = protocol.Hash(a.rootKey.Hash())
	if b, err := tx.Setting(settingPeers); err == nil {
		var peers []netip.AddrPort
		if err := json.Unmarshal(b, &peers); err != nil {
			return fmt.Errorf("operator database: addresses: %w", err)
		}
		a.peers = peers
	} else if !errors.Is(err, sqlite.ErrNotFound) {
		return err
	}
	if a.rootSigner != nil && a.rootSigner.Public() != a.rootKey {
		return fmt.Errorf("%w: %s/%s/%s is not this operator's root key", ErrInvalid, o.dir, keysDir, rootKeyFile)
	}
	if own, found, err := a.current(tx, protocol.TableOperatorNode, a.id); err != nil {
		return err
	} else if !found {
		return fmt.Errorf("%w: %s/%s/%s is not the key that this operator.db belongs to", ErrInvalid, o.dir, keysDir, operatorKeyFile)
	} else {
		a.epoch = own.Epoch
	}
	if err := a.loadStanding(tx); err != nil {
		return err
	}
	if err := a.finishHandover(tx); err != nil {
		return err
	}
	if err := a.renewChain(tx, false); err != nil {
		return err
	}
	return o.loadIdentity(tx)
}

func (o *Operator) loadIdentity(tx *sqlite.Tx) error {
	own, err := tx.Record(protocol.TableOperatorNode, o.id)
	if err != nil {
		return err
	}
	o.state.Lock()
	defer o.state.Unlock()
	if o.trust == nil {
		if o.trust, err = o.loadTrust(tx); err != nil {
			return err
		}
	} else if err := o.trust.AddOperator(own.Raw, o.rootKey, o.now()); err != nil {
		return err
	}
	o.record = own.Raw
	return nil
}

// Identity is what the operator's node speaks with. Announce may have a new record made, so it comes before.
func (o *Operator) Identity() (*key.Pair, []byte, *protocol.Trust) {
	o.state.Lock()
	defer o.state.Unlock()
	return o.keys, o.record, o.trust
}

// RootKey is the root's public key.
func (a *Authority) RootKey() key.Public { return a.rootKey }

// HTTPS is the advertised host:port.
func (a *Authority) HTTPS() string { return a.https }

// Dir is the operator's directory.
func (o *Operator) Dir() string { return o.dir }

// Summary is what there is to know about the operator in public.
func (o *Operator) Summary(ctx context.Context) (Summary, error) {
	s := o.summary()
	err := o.db.View(ctx, func(tx *sqlite.Tx) error {
		own, err := tx.Record(protocol.TableOperatorNode, o.id)
		s.Expires = own.Expires.UTC()
		return err
	})
	return s, err
}

// Close ends what is in hand, closes the database and frees the directory.
func (o *Operator) Close() error {
	var err error
	o.closed.Do(func() {
		o.cancel()
		err = errors.Join(o.db.Close(), o.lock.Close())
	})
	return err
}
