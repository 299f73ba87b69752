//go:build race

package link

// pooling is off: under the race detector pools lose things at random.
const pooling = false
