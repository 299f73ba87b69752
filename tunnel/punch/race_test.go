//go:build race

package punch

// fewer divides the seeds of the simulations, which have one goroutine, under the race detector.
const fewer = 20
