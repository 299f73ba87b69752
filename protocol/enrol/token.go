package enrol

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"culvert/protocol"
)

// ErrToken marks text that is no join token.
var ErrToken = errors.New("not a valid join token")

const (
	// TokenPrefix starts every join token of this version.
	TokenPrefix = "culvert-join-1-"

	tokenFamily  = "culvert-join-"
	tokenSum     = 4
	maxAddress   = 253 + 1 + 5 // a DNS name, a colon, a port
	maxTokenText = len(TokenPrefix) + (64+maxAddress+tokenSum)*4/3 + 4
)

// Token is a join token: where the operator is, how to recognise it, and the secret that admits.
type Token struct {
	Root    protocol.Hash // SHA-256 of the root's signing key
	Secret  Secret
	Address string // host:port of the operator's HTTPS
}

// String never shows the secret; Text does.
func (t Token) String() string { return "join token for " + t.Address + " (redacted)" }

// GoString never shows the secret.
func (t Token) GoString() string { return t.String() }

// Text is the token as people copy it.
func (t Token) Text() string {
	b := make([]byte, 0, 64+len(t.Address)+tokenSum)
	b = append(b, t.Root[:]...)
	b = append(b, t.Secret[:]...)
	b = append(b, t.Address...)
	sum := sha256.Sum256(b)
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:tokenSum]...))
}

// ParseToken reads what Text wrote. White space around it, which copying adds, does no harm.
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxTokenText {
		return Token{}, fmt.Errorf("%w: %d characters are too many; copy one whole token from `culvert operator token create`", ErrToken, len(s))
	}
	body, ok := strings.CutPrefix(s, TokenPrefix)
	if !ok {
		if strings.HasPrefix(s, tokenFamily) {
			return Token{}, fmt.Errorf("%w: it is of another version than this program reads (%s…); update culvert", ErrToken, TokenPrefix)
		}
		return Token{}, fmt.Errorf("%w: a token begins with %s; get one from the operator with `culvert operator token create`", ErrToken, TokenPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) <= 64+tokenSum {
		return Token{}, fmt.Errorf("%w: it is damaged or cut off; copy it again, whole", ErrToken)
	}
	sum := sha256.Sum256(b[:len(b)-tokenSum])
	if !bytes.Equal(sum[:tokenSum], b[len(b)-tokenSum:]) {
		return Token{}, fmt.Errorf("%w: it is damaged or cut off; copy it again, whole", ErrToken)
	}
	t := Token{Root: protocol.Hash(b[:32]), Secret: Secret(b[32:64]), Address: string(b[64 : len(b)-tokenSum])}
	if err := CheckAddress(t.Address); err != nil {
		return Token{}, fmt.Errorf("%w: %v", ErrToken, err)
	}
	return t, nil
}

// CheckAddress accepts host:port with a DNS name or IP address and a port from 1 to 65535.
func CheckAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || len(s) > maxAddress {
		return fmt.Errorf("address %.80q wants HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("address %.80q: the port is not a number from 1 to 65535", s)
	}
	return CheckHost(host)
}

// CheckHost accepts a DNS name or an IP address without a zone.
func CheckHost(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Errorf("host %s cannot be dialled by others", host)
		}
		return nil
	}
	if host == "" || len(host) > 253 {
		return fmt.Errorf("host %.80q is not a DNS name or IP address", host)
	}
	for label := range strings.SplitSeq(host, ".") {
		if !dnsLabel(label) {
			return fmt.Errorf("host %.80q is not a DNS name or IP address", host)
		}
	}
	return nil
}

func dnsLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	return true
}

// SecretHash is what the operator stores of a token's secret.
func SecretHash(s Secret) protocol.Hash {
	return protocol.Hash(sha256.Sum256(append([]byte("culvert 1 join secret\x00"), s[:]...)))
}
