//go:build !linux

package node

// unmapCode does nothing: here the system takes back by itself what is not used.
func unmapCode() {}
