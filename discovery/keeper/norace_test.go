//go:build !race

package keeper_test

// locations are those of a customer with a thousand agents.
const locations = 20
