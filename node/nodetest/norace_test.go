//go:build !race

package nodetest

// manyDomains is in how many domains one daemon must be able to be.
const manyDomains = 100
