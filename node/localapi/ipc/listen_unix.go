//go:build !windows

package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"culvert/node/config"
)

// probe bounds the wait for another daemon's answer.
const probe = 2 * time.Second

// Address returns where the agent with this data directory listens.
func Address(dataDir string) string { return filepath.Join(dataDir, "agent.sock") }

// listener is a socket in the file system with the lock that makes it ours.
type listener struct {
	*net.UnixListener
	path string
	made os.FileInfo
	lock *os.File

	once sync.Once
	err  error
}

// Listen makes the socket at address and listens there. Close removes it.
func Listen(address string) (net.Listener, error) {
	path, err := filepath.Abs(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	l, err := listenLocked(path)
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.lock = lock
	return l, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked: stop it, or choose another data directory", ErrInUse, path)
		}
		return nil, fmt.Errorf("lock the socket: %s: %w", path, err)
	}
	return f, nil
}

// listenLocked replaces what is at path, if that is a socket at which nobody answers.
func listenLocked(path string) (*listener, error) {
	if err := checkReplaceable(path); err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	var l *net.UnixListener
	err := withShortPath(fresh, func(short string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // it does not know the socket's final name
	made, err := publish(fresh, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen at %s: %w", path, err), l.Close(), os.Remove(fresh))
	}
	return &listener{UnixListener: l, path: path, made: made}, nil
}

// publish gives the socket its permissions and then its name.
func publish(fresh, path string) (os.FileInfo, error) {
	if err := os.Chmod(fresh, 0o600); err != nil {
		return nil, err
	}
	if group, err := user.LookupGroup(config.Group); err == nil {
		gid, err := strconv.Atoi(group.Gid)
		if err == nil && os.Chown(fresh, -1, gid) == nil {
			if err := os.Chmod(fresh, 0o660); err != nil {
				return nil, err
			}
		}
	}
	made, err := os.Lstat(fresh)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(fresh, path)
}

func checkReplaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen at %s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%w: %s exists and is not a socket: move it away", ErrAddress, path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probe)
	defer cancel()
	conn, err := Dial(ctx, path)
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, ErrNoDaemon):
		return nil
	}
	return fmt.Errorf("%w at %s: stop it, or choose another data directory", ErrInUse, path)
}

// Addr returns the socket's final name.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket, if it is still the one that was made here.
func (l *listener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			l.err = os.Remove(l.path)
		}
		l.err = errors.Join(l.err, l.UnixListener.Close(), l.lock.Close())
	})
	return l.err
}

// Dial connects to the agent that listens at address.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	path, err := filepath.Abs(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	var conn net.Conn
	err = withShortPath(path, func(short string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTSOCK):
		return nil, fmt.Errorf("%w at %s", ErrNoDaemon, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %s belongs to others: run as the agent's user or join the group %s", ErrDenied, path, config.Group)
	case errors.Is(err, ErrAddress):
		return nil, err
	}
	return nil, fmt.Errorf("connect to %s: %w", path, err)
}
