//go:build !race

package nodetest

import "time"

const (
	// manyDomains is in how many domains one daemon must be able to be.
	manyDomains = 100
	// manyStores is how many stores are acknowledged while a super-node is killed manyKills times.
	manyStores = 10_000
	manyKills  = 20
	// soakShort is for how long super-nodes are killed where nobody says.
	soakShort = 20 * time.Second
	// growShort is to how many super-nodes a mesh grows where nobody says: enough for a split.
	growShort = 7
)
