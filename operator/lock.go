package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
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

// lockPoll is short, so that a daemon gets its turn among commands that follow each other closely.
const lockPoll = 2 * time.Millisecond

// acquireWithin is acquire, again and again while another process has the lock.
func acquireWithin(ctx context.Context, dir string, wait time.Duration) (*lock, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		l, err := acquire(dir)
		if !errors.Is(err, ErrRunning) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(lockPoll):
		}
	}
}

// Close frees the lock.
func (l *lock) Close() error { return l.file.Close() }
