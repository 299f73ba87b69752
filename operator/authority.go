package operator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

const (
	nodeLife       = 30 * 24 * time.Hour
	renewGrace     = 90 * 24 * time.Hour // after a certificate's expiry
	sameRenewal    = time.Hour           // within it a renewal gives the same certificate again
	deviceLife     = 365 * 24 * time.Hour
	deviceRenew    = deviceLife / 2
	mapLife        = 14 * 24 * time.Hour
	mapRenew       = 7 * 24 * time.Hour
	revocationLife = 10 * 365 * 24 * time.Hour

	// KeyGrace is how long after a revocation the domain's new key is handed out before it seals.
	KeyGrace = 15 * time.Minute
)

// Actor is who asks for a change: for the audit log, and for what it may see and touch.
type Actor struct {
	Name   string
	Domain protocol.Domain // 0: everything
	Local  bool            // on the operator's own computer, as its user: may handle keys
}

func (by Actor) may(d protocol.Domain) bool { return by.Domain == 0 || by.Domain == d }

func (by Actor) wantLocal() error {
	if !by.Local {
		return fmt.Errorf("%w: keys are handled on the operator's own computer only", ErrForbidden)
	}
	return nil
}

func (by Actor) wantAll() error {
	if by.Domain != 0 {
		return fmt.Errorf("%w: this API key is for one domain only", ErrForbidden)
	}
	return nil
}

// Authority is the registry and the key that signs for it. It is safe for concurrent use.
type Authority struct {
	db         *sqlite.DB
	keys       *key.Pair
	rootSigner *key.Signing // nil where the root is offline
	rootKey    key.Public
	root       protocol.Hash
	id         protocol.ID
	epoch      uint64
	https      string
	name       string
	now        func() time.Time
	rand       io.Reader
	wake       chan struct{} // something is in the outbox
	floor      uint64        // every number given is at least this; see standing.go
	standing   atomic.Pointer[standing]
	passes     passes

	mu     sync.Mutex
	peers  []netip.AddrPort
	load   []partition.DomainLoad // counted at loadAt
	loadAt time.Time
	locate func(context.Context, protocol.ID) ([]protocol.Hash, error) // nil while the operator does not run
}

// update is db.Update, and wakes the outbox. Who does not lead changes nothing.
func (a *Authority) update(ctx context.Context, fn func(*sqlite.Tx) error) error {
	if err := a.mayWrite(); err != nil {
		return err
	}
	if err := a.db.Update(ctx, fn); err != nil {
		return err
	}
	a.kick()
	return nil
}

func (a *Authority) kick() { poke(a.wake) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Peers are the operator's present message addresses.
func (a *Authority) Peers() []netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.peers)
}

func (a *Authority) current(tx *sqlite.Tx, t protocol.Table, owner protocol.ID) (*protocol.Record, bool, error) {
	row, err := tx.Record(t, owner)
	if errors.Is(err, sqlite.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	r, err := protocol.ParseRecord(row.Raw)
	return r, err == nil, err
}

// sign gives r its place in its owner's sequence, signs it and keeps it in tx, outbox included.
func (a *Authority) sign(tx *sqlite.Tx, r *protocol.Record, life time.Duration) ([]byte, error) {
	old, found, err := a.current(tx, r.Table, r.Owner)
	if err != nil {
		return nil, err
	}
	if err := a.mayWrite(); err != nil {
		return nil, err
	}
	r.Signer, r.Epoch, r.Sequence = a.id, a.epoch, a.next(0)
	if found && old.Epoch > a.epoch {
		return nil, fmt.Errorf("operator: %s of %s is of the later epoch %d: this operator has been replaced", r.Table, r.Owner.Short(), old.Epoch)
	}
	if found && old.Epoch == a.epoch {
		r.Sequence = a.next(old.Sequence)
	}
	r.Issued = a.now().Truncate(time.Millisecond)
	r.Expires = r.Issued.Add(life)
	raw, err := protocol.SignRecord(r, a.keys.Signing)
	if err != nil {
		return nil, err
	}
	return raw, tx.PutRecord(registry.Record{Table: r.Table, Owner: r.Owner, Epoch: r.Epoch, Sequence: r.Sequence, Expires: r.Expires, Raw: raw})
}

func (a *Authority) audit(tx *sqlite.Tx, by Actor, action, subject string, d protocol.Domain, detail string) error {
	return tx.Audit(registry.Audit{Time: a.now(), Actor: by.Name, Action: action, Subject: subject, Domain: d, Detail: detail})
}

func (a *Authority) summary() Summary {
	standing := "leading"
	var reason string
	if s := a.standing.Load(); s != nil && s.State != "" {
		standing, reason = s.State, s.Reason
	}
	return Summary{
		Standing: standing, Reason: reason,
		Name: a.name, ID: a.id, Root: hex.EncodeToString(a.root[:]), HTTPS: a.https,
		Expires: a.now().Add(operatorLife).UTC().Truncate(time.Second), RootHere: a.rootSigner != nil,
	}
}

// domain finds a domain by name or number in the actor's scope. An empty name is the scope's own domain.
func (a *Authority) domain(tx *sqlite.Tx, by Actor, name string) (registry.Domain, error) {
	var d registry.Domain
	var err error
	if name == "" {
		if by.Domain == 0 {
			return d, invalid("no domain named")
		}
		return tx.Domain(by.Domain)
	}
	d, err = tx.DomainByName(name)
	if errors.Is(err, sqlite.ErrNotFound) {
		if n, perr := protocol.ParseDomain(name); perr == nil {
			d, err = tx.Domain(n)
		}
	}
	if errors.Is(err, sqlite.ErrNotFound) || err == nil && !by.may(d.Number) {
		return registry.Domain{}, notFound("domain %.80q", name)
	}
	return d, err
}

// scope is the domain that a list is limited to: the named one, the actor's, or 0 for all.
func (a *Authority) scope(tx *sqlite.Tx, by Actor, name string) (protocol.Domain, error) {
	if name == "" {
		return by.Domain, nil
	}
	d, err := a.domain(tx, by, name)
	return d.Number, err
}

// domainNames is for lists.
func domainNames(tx *sqlite.Tx) (map[protocol.Domain]string, error) {
	ds, err := tx.Domains()
	if err != nil {
		return nil, err
	}
	m := make(map[protocol.Domain]string, len(ds))
	for _, d := range ds {
		m[d.Number] = d.Name
	}
	return m, nil
}
