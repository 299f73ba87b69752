//go:build !race

package link

const pooling = true
