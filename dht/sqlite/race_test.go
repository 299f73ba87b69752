//go:build race

package sqlite

// Under the race detector a fault takes ten times as long to look at.
const (
	fewCuts  = 30
	fewFlips = 10
)
