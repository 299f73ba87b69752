//go:build race

package dht_test

// The race detector makes pools forget, so that allocations count for nothing.
const raceEnabled = true
