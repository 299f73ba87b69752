package localapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// minToken is the least length of a token: 128 bits in base64.
const minToken = 22

// ErrToken says that a token or its file may not be used.
var ErrToken = errors.New("unusable token")

// ListenLoopback opens a listener for [Server.ServeLoopback].
func ListenLoopback(address string) (net.Listener, error) {
	if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen at %q: not a loopback address", address)
	}
	return net.Listen("tcp", address)
}

// ServeLoopback is Serve for a TCP listener on a loopback address, for callers that know the token.
func (s *Server) ServeLoopback(l net.Listener, token string) error {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("serve at %v: not a loopback address", l.Addr()), l.Close())
	}
	if len(token) < minToken {
		return errors.Join(fmt.Errorf("%w: shorter than %d characters", ErrToken, minToken), l.Close())
	}
	return s.serve(l, guardLoopback(s.handler(), tcp.Port, token), func(conn net.Conn) Caller {
		return Caller{Program: conn.RemoteAddr().String()}
	})
}

// guardLoopback lets through requests that name this listener, come from no other web page and carry the token.
func guardLoopback(h http.Handler, port int, token string) http.Handler {
	var hosts []string
	for _, name := range []string{"127.0.0.1", "::1", "localhost"} {
		hosts = append(hosts, net.JoinHostPort(name, strconv.Itoa(port)))
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(hosts, strings.ToLower(r.Host)) || !ownOrigin(r, hosts) {
			forbidden(w)
			return
		}
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(given)) // equal lengths for a comparison in constant time
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeError(w, Errorf(NotAllowed, "send Authorization: Bearer and the content of api.token", "the token is missing or wrong").withStatus(http.StatusUnauthorized))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ownOrigin is stricter than http.CrossOriginProtection, which lets every GET pass.
func ownOrigin(r *http.Request, hosts []string) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Scheme == "http" && slices.Contains(hosts, u.Host)
}

func forbidden(w http.ResponseWriter) {
	writeError(w, Errorf(NotAllowed, "call the agent from a program on this machine, not from a web page", "requests from other sites are not answered"))
}

// LoadToken reads the token in the file, or makes one with randomness of random (nil for the system's) and writes it with mode 0600.
func LoadToken(path string, random io.Reader) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path, random)
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: others may read %s (mode %04o): run chmod 600 on it, or remove it to get a new one", ErrToken, path, info.Mode().Perm())
	}
	if info.Size() > maxToken {
		return "", fmt.Errorf("%w: %s is longer than %d bytes", ErrToken, path, maxToken)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken {
		return "", fmt.Errorf("%w: %s holds less than %d characters: remove it to get a new one", ErrToken, path, minToken)
	}
	return token, nil
}

func makeToken(path string, random io.Reader) (string, error) {
	var secret [32]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(secret[:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write the token: %w", err), os.Remove(path))
	}
	return token, nil
}
