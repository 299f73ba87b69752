package operator

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

// APIKeyPrefix starts every API key, so that secret scanners know one when they see it.
const APIKeyPrefix = "culvert-api-1-"

// APIKeyView is an API key as the admin API shows it. Key is only in the answer that makes it.
type APIKeyView struct {
	ID      string    `json:"id"`
	Key     string    `json:"key,omitempty"`
	Domain  string    `json:"domain,omitempty"` // none: all domains
	Created time.Time `json:"created"`
	By      string    `json:"by"`
}

// CreateAPIKey makes a bearer key for all domains, or for one only.
func (a *Authority) CreateAPIKey(ctx context.Context, by Actor, domain string) (APIKeyView, error) {
	if err := by.wantAll(); err != nil {
		return APIKeyView{}, err
	}
	var secret [32]byte
	if _, err := io.ReadFull(a.rand, secret[:]); err != nil {
		return APIKeyView{}, fmt.Errorf("make an API key: %w", err)
	}
	k := registry.APIKey{Hash: apiKeyHash(secret[:]), Created: a.now(), By: by.Name}
	v := APIKeyView{ID: shortHash(k.Hash), Key: APIKeyPrefix + base64.RawURLEncoding.EncodeToString(secret[:]), Created: k.Created.UTC(), By: by.Name}
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		if domain != "" {
			d, err := a.domain(tx, by, domain)
			if err != nil {
				return err
			}
			k.Domain, v.Domain = d.Number, d.Name
		}
		if err := tx.AddAPIKey(k); err != nil {
			return err
		}
		return a.audit(tx, by, "apikey.create", v.ID, k.Domain, v.Domain)
	})
	if err != nil {
		return APIKeyView{}, err
	}
	return v, nil
}

func apiKeyHash(secret []byte) protocol.Hash {
	return protocol.Hash(sha256.Sum256(append([]byte("culvert 1 api key\x00"), secret...)))
}

// APIKeys lists the keys, without their secrets.
func (a *Authority) APIKeys(ctx context.Context, by Actor) ([]APIKeyView, error) {
	if err := by.wantAll(); err != nil {
		return nil, err
	}
	out := []APIKeyView{}
	err := a.db.View(ctx, func(tx *sqlite.Tx) error {
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		ks, err := tx.APIKeys()
		for _, k := range ks {
			out = append(out, APIKeyView{ID: shortHash(k.Hash), Domain: names[k.Domain], Created: k.Created.UTC(), By: k.By})
		}
		return err
	})
	return out, err
}

// DeleteAPIKey ends an API key.
func (a *Authority) DeleteAPIKey(ctx context.Context, by Actor, id string) error {
	if err := by.wantAll(); err != nil {
		return err
	}
	return a.update(ctx, func(tx *sqlite.Tx) error {
		ks, err := tx.APIKeys()
		if err != nil {
			return err
		}
		for _, k := range ks {
			if shortHash(k.Hash) == id {
				if err := tx.DeleteAPIKey(k.Hash); err != nil {
					return err
				}
				return a.audit(tx, by, "apikey.delete", id, k.Domain, "")
			}
		}
		return notFound("API key %.40q", id)
	})
}

// Authenticate is the actor behind a bearer key. The key is 256 random bits, found by its hash: nothing to guess or to time.
func (a *Authority) Authenticate(ctx context.Context, bearer string) (Actor, error) {
	text, ok := strings.CutPrefix(bearer, APIKeyPrefix)
	secret, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(secret) != 32 {
		return Actor{}, fmt.Errorf("%w: not an API key", ErrForbidden)
	}
	var k registry.APIKey
	err = a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		k, err = tx.APIKey(apiKeyHash(secret))
		return err
	})
	if errors.Is(err, sqlite.ErrNotFound) {
		return Actor{}, fmt.Errorf("%w: the API key is not known or has been deleted", ErrForbidden)
	}
	return Actor{Name: "api key " + shortHash(k.Hash), Domain: k.Domain}, err
}
