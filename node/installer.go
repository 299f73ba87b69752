package node

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
)

// installerToken is what an installer leaves in the data directory, mode 0600: a counted token by which this computer joins at
// its first start, and again, as a new node, should its keys be lost or damaged (ID-3).
const installerToken = "join.token"

const (
	installerFirst = 2 * time.Second
	installerLast  = 10 * time.Minute
)

// installerLoop joins by the installer's token while this node is in no domain.
func (n *Node) installerLoop(ctx context.Context) {
	path := filepath.Join(n.cfg.Dir, installerToken)
	wait := installerFirst
	for len(n.members()) == 0 {
		token, err := readToken(path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			_, err = n.join(ctx, token, HostName())
		}
		switch {
		case err == nil:
			n.log.Info("joined by the installer's token")
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, errLooseToken), errors.Is(err, enrol.ErrToken), errors.Is(err, enrol.ErrTokenUsed),
			errors.Is(err, enrol.ErrTokenExpired), errors.Is(err, enrol.ErrTokenUnknown), errors.Is(err, enrol.ErrBanned):
			n.log.Error("the installer's token is of no use", "file", path, "error", err)
			return
		}
		n.log.Warn("not joined by the installer's token yet", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait + rand.N(wait/2)):
		}
		wait = min(2*wait, installerLast)
	}
}

var errLooseToken = errors.New("the file is readable by others; run: chmod 600")

// readToken refuses a file that others may read: who has the token may join.
func readToken(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return "", errLooseToken
	}
	if st.Size() > 4096 {
		return "", enrol.ErrToken
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// HostName is this computer's name in the letters that a node's name may have.
func HostName() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return cleanName(host)
}

func cleanName(host string) string {
	host, _, _ = strings.Cut(host, ".") // the rest names a network, which may change
	clean := strings.Map(func(r rune) rune {
		if protocol.CheckName("x"+string(r)) != nil {
			return '-'
		}
		return r
	}, host)
	clean = strings.TrimLeft(clean, "-")
	clean = clean[:min(len(clean), protocol.MaxName)]
	if clean == "" {
		return "node"
	}
	return clean
}
