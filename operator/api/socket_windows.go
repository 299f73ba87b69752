package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// ListenAdmin opens the admin pipe of dir for the system, administrators and this user.
func ListenAdmin(dir string) (net.Listener, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("admin pipe: %w", err)
	}
	sddl := "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;" + user.User.Sid.String() + ")"
	l, err := winio.ListenPipe(pipeName(dir), &winio.PipeConfig{SecurityDescriptor: sddl})
	if err != nil {
		return nil, fmt.Errorf("admin pipe: %w", err)
	}
	return l, nil
}

// DialAdmin connects to the running operator of dir.
func DialAdmin(ctx context.Context, dir string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, pipeName(dir))
}

// pipeName is one name for each directory: pipes live in one flat space.
func pipeName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	h := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(dir))))
	return `\\.\pipe\culvert-operator-` + hex.EncodeToString(h[:8])
}

// peerName trusts the pipe's access list: nobody else gets through it.
func peerName(net.Conn) (string, error) { return "local administrator", nil }
