//go:build !race

package sqlite

const (
	// fewCuts is how often the power is cut where nobody says.
	fewCuts = 100
	// fewFlips is how many bits are flipped in each state of a database.
	fewFlips = 40
)
