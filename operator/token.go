package operator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

const (
	maxUses     = 1_000_000
	maxTokenTTL = 366 * 24 * time.Hour
	defaultTTL  = 24 * time.Hour
	// tokenKept is how long an expired token is kept, so that a late user is told that it expired.
	tokenKept = 30 * 24 * time.Hour
)

// TokenSpec describes a token to be made.
type TokenSpec struct {
	Domain string   `json:"domain"`
	Groups []string `json:"groups,omitempty"`
	Uses   int      `json:"uses,omitempty"` // 1 if 0
	TTL    string   `json:"ttl,omitempty"`  // as 24h, which is the default
}

// TokenView is a token as the admin API shows it. Token, the text itself, is only in the answer that makes it.
type TokenView struct {
	ID      string    `json:"id"`
	Token   string    `json:"token,omitempty"`
	Domain  string    `json:"domain"`
	Groups  []string  `json:"groups"`
	Uses    int       `json:"uses"`
	Left    int       `json:"left"`
	State   string    `json:"state"` // open, used, expired
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"by"`
}

func viewToken(k registry.Token, domain string, now time.Time) TokenView {
	state := "open"
	switch {
	case k.Left <= 0:
		state = "used"
	case !now.Before(k.Expires):
		state = "expired"
	}
	if k.Groups == nil {
		k.Groups = []string{}
	}
	return TokenView{ID: shortHash(k.Hash), Domain: domain, Groups: k.Groups, Uses: k.Uses, Left: k.Left, State: state,
		Created: k.Created.UTC(), Expires: k.Expires.UTC(), By: k.By}
}

// shortHash names a token or API key for people; it tells nothing about the secret.
func shortHash(h protocol.Hash) string { return hex.EncodeToString(h[:8]) }

// CreateToken makes a join token. Only its secret's hash is kept.
func (a *Authority) CreateToken(ctx context.Context, by Actor, s TokenSpec) (TokenView, error) {
	if s.Uses == 0 {
		s.Uses = 1
	}
	ttl := defaultTTL
	if s.TTL != "" {
		var err error
		if ttl, err = time.ParseDuration(s.TTL); err != nil {
			return TokenView{}, invalid("ttl %.40q is not a duration such as 24h or 30m", s.TTL)
		}
	}
	if s.Uses < 0 || s.Uses > maxUses {
		return TokenView{}, invalid("%d uses; from 1 to %d", s.Uses, maxUses)
	}
	if ttl < time.Second || ttl > maxTokenTTL {
		return TokenView{}, invalid("ttl %s; from 1s to %s", ttl, maxTokenTTL)
	}
	if err := protocol.CheckGroups(s.Groups); err != nil {
		return TokenView{}, invalid("%v", err)
	}
	t := enrol.Token{Root: a.root, Address: a.https}
	if _, err := io.ReadFull(a.rand, t.Secret[:]); err != nil {
		return TokenView{}, fmt.Errorf("make a token: %w", err)
	}
	k := registry.Token{Hash: enrol.SecretHash(t.Secret), Groups: s.Groups, Uses: s.Uses, Left: s.Uses,
		Created: a.now(), Expires: a.now().Add(ttl), By: by.Name}
	var v TokenView
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		d, err := a.domain(tx, by, s.Domain)
		if err != nil {
			return err
		}
		if d.Banned {
			return invalid("domain %s is banned; unban it first", d.Name)
		}
		k.Domain = d.Number
		if err := tx.AddToken(k); err != nil {
			return err
		}
		v = viewToken(k, d.Name, a.now())
		return a.audit(tx, by, "token.create", v.ID, d.Number, fmt.Sprintf("%d uses, %s, groups %s", k.Uses, ttl, strings.Join(k.Groups, ",")))
	})
	v.Token = t.Text()
	if err != nil {
		return TokenView{}, err
	}
	return v, nil
}

// Tokens lists tokens, without their secrets: nobody has those.
func (a *Authority) Tokens(ctx context.Context, by Actor, domain string) ([]TokenView, error) {
	out := []TokenView{}
	err := a.db.View(ctx, func(tx *sqlite.Tx) error {
		d, err := a.scope(tx, by, domain)
		if err != nil {
			return err
		}
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		ks, err := tx.Tokens(d)
		for _, k := range ks {
			out = append(out, viewToken(k, names[k.Domain], a.now()))
		}
		return err
	})
	return out, err
}

// DeleteToken ends a token before its time.
func (a *Authority) DeleteToken(ctx context.Context, by Actor, id string) error {
	return a.update(ctx, func(tx *sqlite.Tx) error {
		ks, err := tx.Tokens(by.Domain)
		if err != nil {
			return err
		}
		for _, k := range ks {
			if shortHash(k.Hash) == id {
				if err := tx.DeleteToken(k.Hash); err != nil && !errors.Is(err, sqlite.ErrNotFound) {
					return err
				}
				return a.audit(tx, by, "token.delete", id, k.Domain, "")
			}
		}
		return notFound("token %.40q", id)
	})
}
