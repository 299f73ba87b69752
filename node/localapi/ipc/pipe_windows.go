package ipc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"culvert/node/config"
)

// access is reading and writing the pipe without FILE_CREATE_PIPE_INSTANCE, which GENERIC_WRITE holds and with which a client
// could pose as the agent.
const access = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.FILE_READ_EA | windows.FILE_WRITE_EA |
	windows.FILE_READ_ATTRIBUTES | windows.FILE_WRITE_ATTRIBUTES | windows.READ_CONTROL | windows.SYNCHRONIZE

// Address returns where the agent with this data directory listens.
func Address(dataDir string) string {
	if abs, err := filepath.Abs(dataDir); err == nil {
		dataDir = abs
	}
	sum := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(dataDir))))
	return `\\.\pipe\culvert-` + hex.EncodeToString(sum[:8])
}

// Listen makes the pipe at address and listens there. The first instance of a pipe is ours or an error, so nobody can have
// made it before with looser permissions.
func Listen(address string) (net.Listener, error) {
	sddl, err := descriptor()
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	l, err := winio.ListenPipe(address, &winio.PipeConfig{SecurityDescriptor: sddl, InputBufferSize: 1 << 16, OutputBufferSize: 1 << 16})
	if errors.Is(err, fs.ErrExist) || errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_PIPE_BUSY) {
		return nil, fmt.Errorf("%w at %s: stop it, or choose another data directory", ErrInUse, address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	return l, nil
}

// descriptor denies the network and lets in the system, administrators, this user and the group culvert.
func descriptor() (string, error) {
	self, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	sddl := "D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + self.User.Sid.String() + ")"
	if group, err := user.LookupGroup(config.Group); err == nil {
		sddl += fmt.Sprintf("(A;;%#x;;;%s)", uint32(access), group.Gid)
	}
	return sddl, nil
}

// Dial connects to the agent that listens at address.
func Dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := winio.DialPipeAccess(ctx, address, access)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s", ErrNoDaemon, address)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %s belongs to others: run as the agent's user or join the group %s", ErrDenied, address, config.Group)
	}
	return nil, fmt.Errorf("connect to %s: %w", address, err)
}

// CallerOf returns who made the connection.
func CallerOf(conn net.Conn) (Caller, error) {
	pipe, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return Caller{}, fmt.Errorf("%w: %T has no peer credentials", ErrAddress, conn)
	}
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(windows.Handle(pipe.Fd()), &pid); err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	c := Caller{PID: int(pid)}
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return c, nil // gone or better protected than we are: the process ID is all there is
	}
	defer windows.CloseHandle(process)
	name := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(name))
	if windows.QueryFullProcessImageName(process, 0, &name[0], &size) == nil {
		c.Program = windows.UTF16ToString(name[:size])
	}
	var token windows.Token
	if windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token) != nil {
		return c, nil
	}
	defer token.Close()
	if u, err := token.GetTokenUser(); err == nil {
		c.UID = u.User.Sid.String()
		if account, domain, _, err := u.User.Sid.LookupAccount(""); err == nil {
			c.User = domain + `\` + account
		}
	}
	return c, nil
}
