//go:build race

package nodetest

// Under the race detector ciphers are ten times slower: fewer domains show the same races in the same time.
const manyDomains = 20
