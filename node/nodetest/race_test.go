//go:build race

package nodetest

import "time"

// Under the race detector ciphers are ten times slower: fewer domains, and fewer kills with fewer stores between them, show the
// same races in the same time.
const (
	manyDomains = 20
	manyKills   = 5
	manyStores  = 2_500
	soakShort   = 10 * time.Second
	growShort   = 3
)
