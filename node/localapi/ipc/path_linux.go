package ipc

import (
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPath is the room for a path in a socket address, less its closing zero.
const maxPath = 107

// withShortPath calls f with a name of path that fits a socket address: a long one by way of its open directory.
func withShortPath(path string, f func(string) error) error {
	if len(path) <= maxPath {
		return f(path)
	}
	dir, file := filepath.Split(path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	short := "/proc/self/fd/" + strconv.Itoa(fd) + "/" + file
	if len(short) > maxPath {
		return fmt.Errorf("%w: the file name in %s is longer than a socket's may be", ErrAddress, path)
	}
	return f(short)
}
