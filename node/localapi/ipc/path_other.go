//go:build !windows && !linux

package ipc

import "fmt"

// maxPath is the room for a path in a socket address, less its closing zero.
const maxPath = 103

// withShortPath calls f with path where that fits a socket address.
func withShortPath(path string, f func(string) error) error {
	if len(path) > maxPath {
		return fmt.Errorf("%w: %s is longer than %d bytes: choose a shorter data directory with --data", ErrAddress, path, maxPath)
	}
	return f(path)
}
