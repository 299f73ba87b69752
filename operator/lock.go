package operator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const lockFile = "operator.lock"

// errHeld is what the system's lock says when another process holds it.
var errHeld = errors.New("held")

// lock is held by the one process that may write in the directory; the system frees it when the process dies.
type lock struct{ file *os.File }

func acquire(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the operator's directory: %w", err)
	}
	if err := lockExclusive(f); err != nil {
		f.Close()
		if errors.Is(err, errHeld) {
			return nil, fmt.Errorf("%w: %s", ErrRunning, dir)
		}
		return nil, fmt.Errorf("lock the operator's directory: %w", err)
	}
	return &lock{f}, nil
}

// Close frees the lock.
func (l *lock) Close() error { return l.file.Close() }
