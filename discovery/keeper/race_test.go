//go:build race

package keeper_test

// locations are fewer under the race detector, where ciphers are ten times slower; each is as before, and one goroutine drives all.
const locations = 4
