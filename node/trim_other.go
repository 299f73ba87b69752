//go:build !linux

package node

// unmapProgram does nothing: other systems keep what is used alone.
func unmapProgram() error { return nil }
