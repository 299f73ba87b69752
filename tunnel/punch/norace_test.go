//go:build !race

package punch

const fewer = 1
