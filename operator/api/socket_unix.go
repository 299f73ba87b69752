//go:build !windows

package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// SocketName is the admin socket's file in the operator's directory.
const SocketName = "admin.sock"

// ListenAdmin opens the admin socket, mode 0600. Whoever holds the directory's lock may replace an old one.
func ListenAdmin(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w (a path may have about 100 characters)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin socket: %w", err), l.Close())
	}
	return l, nil
}

// DialAdmin connects to the running operator of dir.
func DialAdmin(ctx context.Context, dir string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(dir, SocketName))
}

func peerName(c net.Conn) (string, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "", errForeignPeer
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "", err
	}
	var uid uint32
	var cerr error
	if err := raw.Control(func(fd uintptr) { uid, cerr = peerUID(int(fd)) }); err != nil || cerr != nil {
		return "", errors.Join(err, cerr)
	}
	if uid != 0 && int(uid) != os.Geteuid() {
		return "", errForeignPeer
	}
	return "uid " + strconv.FormatUint(uint64(uid), 10), nil
}
