package operator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

// DomainView is a domain as the admin API shows it.
type DomainView struct {
	Name    string    `json:"name"`
	Number  string    `json:"number"` // eight hex digits
	Created time.Time `json:"created"`
	Banned  bool      `json:"banned"`
	Own     bool      `json:"own"`
}

func viewDomain(d registry.Domain) DomainView {
	return DomainView{Name: d.Name, Number: d.Number.String(), Created: d.Created.UTC(), Banned: d.Banned, Own: d.Own}
}

// AddDomain registers a domain under a fresh random number.
func (a *Authority) AddDomain(ctx context.Context, by Actor, name string) (DomainView, error) {
	if err := by.wantAll(); err != nil {
		return DomainView{}, err
	}
	if err := protocol.CheckName(name); err != nil {
		return DomainView{}, invalid("domain %v", err)
	}
	d := registry.Domain{Name: name, Created: a.now()}
	first := registry.DomainKey{Epoch: 1, From: a.now()}
	for _, b := range [][]byte{d.Secret[:], first.Key[:]} {
		if _, err := io.ReadFull(a.rand, b); err != nil {
			return DomainView{}, fmt.Errorf("make the domain's secrets: %w", err)
		}
	}
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		if _, err := tx.DomainByName(name); !errors.Is(err, sqlite.ErrNotFound) {
			return orExists(err, "domain "+name)
		}
		var err error
		if d.Number, err = a.freeNumber(tx); err != nil {
			return err
		}
		if err := tx.AddDomain(d); err != nil {
			return err
		}
		if err := tx.AddDomainKey(d.Number, first); err != nil {
			return err
		}
		return a.audit(tx, by, "domain.add", name, d.Number, d.Number.String())
	})
	return viewDomain(d), err
}

// orExists turns the nil of a query that should have found nothing into ErrExists.
func orExists(err error, what string) error {
	if err == nil {
		return fmt.Errorf("%w: %s", ErrExists, what)
	}
	return err
}

// freeNumber draws until a number is new: rows of domains are never deleted, so numbers are never reused.
func (a *Authority) freeNumber(tx *sqlite.Tx) (protocol.Domain, error) {
	for {
		var b [4]byte
		if _, err := io.ReadFull(a.rand, b[:]); err != nil {
			return 0, fmt.Errorf("draw a domain number: %w", err)
		}
		n := protocol.Domain(binary.BigEndian.Uint32(b[:]))
		if n == protocol.OperatorDomain {
			continue
		}
		_, err := tx.Domain(n)
		if errors.Is(err, sqlite.ErrNotFound) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// Domains lists what the actor may see.
func (a *Authority) Domains(ctx context.Context, by Actor) ([]DomainView, error) {
	out := []DomainView{}
	err := a.db.View(ctx, func(tx *sqlite.Tx) error {
		ds, err := tx.Domains()
		for _, d := range ds {
			if by.may(d.Number) {
				out = append(out, viewDomain(d))
			}
		}
		return err
	})
	return out, err
}

// BanDomain ends a domain until it is unbanned: its nodes are refused everywhere.
func (a *Authority) BanDomain(ctx context.Context, by Actor, name string) (DomainView, error) {
	return a.setBanned(ctx, by, name, true)
}

// UnbanDomain lets a banned domain in again.
func (a *Authority) UnbanDomain(ctx context.Context, by Actor, name string) (DomainView, error) {
	return a.setBanned(ctx, by, name, false)
}

func (a *Authority) setBanned(ctx context.Context, by Actor, name string, banned bool) (DomainView, error) {
	var d registry.Domain
	if err := by.wantAll(); err != nil {
		return DomainView{}, err
	}
	err := a.update(ctx, func(tx *sqlite.Tx) (err error) {
		if d, err = a.domain(tx, by, name); err != nil || d.Banned == banned {
			return err
		}
		d.Banned = banned
		if err := tx.SetDomain(d); err != nil {
			return err
		}
		kind, action := protocol.UnbannedAgain, "domain.unban"
		if banned {
			kind, action = protocol.BannedDomain, "domain.ban"
			if err := a.dropSuperNodes(tx, "its domain is banned", func(n registry.SuperNode) bool { return n.ID.Domain() == d.Number }, registry.Silent); err != nil {
				return err
			}
		}
		number, err := a.revoke(tx, kind, protocol.NewID(d.Number, protocol.Hash{}))
		if err != nil {
			return err
		}
		return a.audit(tx, by, action, d.Name, d.Number, fmt.Sprintf("revocation %d", number))
	})
	return viewDomain(d), err
}

// SetOwnDomain marks a domain as the operator's own, for the super-node policy "own".
func (a *Authority) SetOwnDomain(ctx context.Context, by Actor, name string, own bool) (DomainView, error) {
	var d registry.Domain
	if err := by.wantAll(); err != nil {
		return DomainView{}, err
	}
	err := a.update(ctx, func(tx *sqlite.Tx) (err error) {
		if d, err = a.domain(tx, by, name); err != nil || d.Own == own {
			return err
		}
		d.Own = own
		if err := tx.SetDomain(d); err != nil {
			return err
		}
		return a.audit(tx, by, "domain.own", d.Name, d.Number, fmt.Sprint(own))
	})
	return viewDomain(d), err
}

// secrets are what the domain's members are given: two readable epochs, and the keys whose time has not come.
func (a *Authority) secrets(tx *sqlite.Tx, d registry.Domain) (enrol.Secrets, error) {
	keys, err := tx.DomainKeys(d.Number)
	if err != nil {
		return enrol.Secrets{}, err
	}
	s := enrol.Secrets{Domain: d.Number.String(), Secret: d.Secret}
	usable := 0
	for _, k := range keys {
		if !k.From.After(a.now()) {
			usable++
		}
		if usable > 2 {
			break
		}
		s.Keys = append(s.Keys, enrol.DomainKey{Epoch: k.Epoch, Key: k.Key, From: k.From.UnixMilli()})
	}
	return s, nil
}

// maxWaiting bounds the keys that are handed out before their time: a series of revocations makes one each.
const maxWaiting = 32

// nextKey gives the domain a new key that seals after KeyGrace.
func (a *Authority) nextKey(tx *sqlite.Tx, d protocol.Domain) error {
	keys, err := tx.DomainKeys(d)
	if err != nil {
		return err
	}
	k := registry.DomainKey{Epoch: uint32(a.next(uint64(keys[0].Epoch))), From: a.now().Add(KeyGrace)}
	if len(keys) > maxWaiting && keys[maxWaiting-1].From.After(a.now()) {
		// So many at once: the youngest, which nothing has been sealed under, gives way.
		if err := tx.DeleteDomainKey(d, keys[0].Epoch); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(a.rand, k.Key[:]); err != nil {
		return fmt.Errorf("make a domain key: %w", err)
	}
	return tx.AddDomainKey(d, k)
}
