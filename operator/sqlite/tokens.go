package sqlite

import (
	"errors"
	"time"

	"culvert/operator/registry"
	"culvert/protocol"
)

const tokenColumns = "SELECT hash, domain, groups, uses, uses_left, created, expires, actor FROM tokens"

func scanToken(s scanner) (k registry.Token, err error) {
	err = s.Scan(fixed(k.Hash[:]), &k.Domain, list[string]{&k.Groups}, &k.Uses, &k.Left, stamp{&k.Created}, stamp{&k.Expires}, &k.By)
	return k, err
}

// Token is the token whose secret has this hash.
func (t *Tx) Token(h protocol.Hash) (registry.Token, error) {
	return one(t, scanToken, tokenColumns+" WHERE hash = ?", h[:])
}

// Tokens are the tokens of a domain, 0 for all, oldest first.
func (t *Tx) Tokens(d protocol.Domain) ([]registry.Token, error) {
	return all(t, scanToken, tokenColumns+" WHERE ? IN (0, domain) ORDER BY created, hash", d)
}

// AddToken keeps a new token.
func (t *Tx) AddToken(k registry.Token) error {
	groups, err := listText(k.Groups)
	if err != nil {
		return err
	}
	return t.exec("INSERT INTO tokens (hash, domain, groups, uses, uses_left, created, expires, actor) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		k.Hash[:], k.Domain, groups, k.Uses, k.Left, millis(k.Created), millis(k.Expires), k.By)
}

// UseToken takes one use, or ErrNotFound if none is left.
func (t *Tx) UseToken(h protocol.Hash) error {
	return t.execOne("UPDATE tokens SET uses_left = uses_left - 1 WHERE hash = ? AND uses_left > 0", h[:])
}

// DeleteToken forgets a token.
func (t *Tx) DeleteToken(h protocol.Hash) error {
	return t.execOne("DELETE FROM tokens WHERE hash = ?", h[:])
}

// DeleteTokens forgets those that expired before then.
func (t *Tx) DeleteTokens(before time.Time) error {
	return t.exec("DELETE FROM tokens WHERE expires < ?", millis(before))
}

// DeleteSecrets ends every join token and every API key.
func (t *Tx) DeleteSecrets() error {
	return errors.Join(t.exec("DELETE FROM tokens"), t.exec("DELETE FROM apikeys"))
}
