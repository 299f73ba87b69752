package sqlite

import (
	"culvert/operator/registry"
	"culvert/protocol"
)

const apiKeyColumns = "SELECT hash, domain, created, actor FROM apikeys"

func scanAPIKey(s scanner) (k registry.APIKey, err error) {
	err = s.Scan(fixed(k.Hash[:]), &k.Domain, stamp{&k.Created}, &k.By)
	return k, err
}

// APIKey is the key with this hash.
func (t *Tx) APIKey(h protocol.Hash) (registry.APIKey, error) {
	return one(t, scanAPIKey, apiKeyColumns+" WHERE hash = ?", h[:])
}

// APIKeys are all keys, oldest first.
func (t *Tx) APIKeys() ([]registry.APIKey, error) {
	return all(t, scanAPIKey, apiKeyColumns+" ORDER BY created, hash")
}

// AddAPIKey keeps a new key.
func (t *Tx) AddAPIKey(k registry.APIKey) error {
	return t.exec("INSERT INTO apikeys (hash, domain, created, actor) VALUES (?, ?, ?, ?)", k.Hash[:], k.Domain, millis(k.Created), k.By)
}

// DeleteAPIKey forgets a key.
func (t *Tx) DeleteAPIKey(h protocol.Hash) error {
	return t.execOne("DELETE FROM apikeys WHERE hash = ?", h[:])
}
