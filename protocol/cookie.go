package protocol

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"culvert/protocol/key"
)

// CookieLife is how long a cookie is good for; whoever made it honours it up to twice as long.
const CookieLife = 120 * time.Second

// Cookie proves that its holder receives at the address that it sends from. Only an overloaded node asks for one.
type Cookie [macSize]byte

// CookieJar makes and checks cookies without remembering anyone.
type CookieJar struct {
	rand io.Reader

	mu       sync.Mutex
	current  [32]byte
	previous [32]byte
	born     time.Time
}

// NewCookieJar draws its secrets from rand.
func NewCookieJar(rand io.Reader) *CookieJar { return &CookieJar{rand: rand} }

func (j *CookieJar) secrets(now time.Time) (current, previous [32]byte, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if age := now.Sub(j.born); j.born.IsZero() || age >= CookieLife || age < 0 {
		old := j.current
		if j.born.IsZero() || age >= 2*CookieLife || age < 0 {
			if _, err = io.ReadFull(j.rand, old[:]); err != nil {
				return current, previous, fmt.Errorf("protocol: read randomness: %w", err)
			}
		}
		if _, err = io.ReadFull(j.rand, j.current[:]); err != nil {
			return current, previous, fmt.Errorf("protocol: read randomness: %w", err)
		}
		j.previous, j.born = old, now
	}
	return j.current, j.previous, nil
}

func cookieFor(secret [32]byte, addr netip.AddrPort) Cookie {
	var b [18]byte
	ip := addr.Addr().As16()
	copy(b[:], ip[:])
	binary.BigEndian.PutUint16(b[16:], addr.Port())
	return mac(secret[:], b[:])
}

// Check reports whether the message's second outer code was made with a cookie given to addr.
func (j *CookieJar) Check(now time.Time, addr netip.AddrPort, e *Envelope) bool {
	n := len(e.raw) - macSize
	if [macSize]byte(e.raw[n:]) == [macSize]byte{} {
		return false
	}
	current, previous, err := j.secrets(now)
	if err != nil {
		return false
	}
	for _, s := range [...][32]byte{current, previous} {
		c := cookieFor(s, addr)
		m := mac(c[:], e.raw[:n])
		if subtle.ConstantTimeCompare(m[:], e.raw[n:]) == 1 {
			return true
		}
	}
	return false
}

// AppendCookie answers e with a cookie for addr. Only who saw e can open it.
func (j *CookieJar) AppendCookie(dst []byte, now time.Time, addr netip.AddrPort, e *Envelope, self key.Public) ([]byte, error) {
	current, _, err := j.secrets(now)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, TypeCookie, wireVersion, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, e.MessageID)
	var nonce [24]byte
	if _, err := io.ReadFull(j.rand, nonce[:]); err != nil {
		return dst[:start], fmt.Errorf("protocol: read randomness: %w", err)
	}
	dst = append(dst, nonce[:]...)
	a, err := chacha20poly1305.NewX(cookieKey(self))
	if err != nil {
		return dst[:start], fmt.Errorf("protocol: seal cookie: %w", err)
	}
	c := cookieFor(current, addr)
	m := e.MAC1()
	return a.Seal(dst, nonce[:], c[:], m[:]), nil
}

// CookieMessageID is the ID of the message that a cookie message answers.
func CookieMessageID(b []byte) (uint64, error) {
	if len(b) != CookieSize || b[0] != TypeCookie || b[2] != 0 || b[3] != 0 {
		return 0, malformed("cookie")
	}
	if b[1] != wireVersion {
		return 0, ErrVersion
	}
	return binary.BigEndian.Uint64(b[4:]), nil
}

// OpenCookie opens the answer to the message whose first outer code was mac1, sent to the node with that signing key.
func OpenCookie(b []byte, from key.Public, mac1 [macSize]byte) (Cookie, error) {
	if _, err := CookieMessageID(b); err != nil {
		return Cookie{}, err
	}
	a, err := chacha20poly1305.NewX(cookieKey(from))
	if err != nil {
		return Cookie{}, fmt.Errorf("protocol: open cookie: %w", err)
	}
	c, err := a.Open(nil, b[12:36], b[36:], mac1[:])
	if err != nil {
		return Cookie{}, ErrOpen
	}
	return Cookie(c), nil
}

func cookieKey(p key.Public) []byte {
	h := sha256.Sum256(append([]byte("culvert 1 cookie\x00"), p[:]...))
	return h[:]
}

// AppendHint tells the sender of a sealed message that its session is not known here.
func AppendHint(dst []byte, index, counter uint64) []byte {
	dst = append(dst, TypeHint, wireVersion, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, index)
	return binary.BigEndian.AppendUint64(dst, counter)
}

// ParseHint reads a hint. Anyone can make one: it is a reason to open a new session, never one to drop a session.
func ParseHint(b []byte) (index, counter uint64, err error) {
	if len(b) != HintSize || b[0] != TypeHint || b[2] != 0 || b[3] != 0 {
		return 0, 0, malformed("hint")
	}
	if b[1] != wireVersion {
		return 0, 0, ErrVersion
	}
	return binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:]), nil
}
