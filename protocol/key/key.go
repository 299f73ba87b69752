package key

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
)

// Size is the length in bytes of every public and private key here.
const Size = 32

var (
	// ErrSmallOrder marks an Ed25519 public key whose order divides eight.
	ErrSmallOrder = errors.New("key: ed25519 public key has small order")
	// ErrInvalid marks bytes that are no key at all.
	ErrInvalid = errors.New("key: invalid key")
)

// Public is the public half of a signing or a sealing key.
type Public [Size]byte

// IsZero reports whether no key is set.
func (p Public) IsZero() bool { return p == Public{} }

// Hash is SHA-256 over the key: the second part of a node's ID.
func (p Public) Hash() [32]byte { return sha256.Sum256(p[:]) }

// Verify reports whether sig is p's Ed25519 signature over msg.
func (p Public) Verify(msg, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(p[:], msg, sig)
}

// CheckPublic refuses what is not a canonical Ed25519 point of large order.
func CheckPublic(p Public) error {
	pt, err := new(edwards25519.Point).SetBytes(p[:])
	if err != nil || subtle.ConstantTimeCompare(pt.Bytes(), p[:]) != 1 {
		return fmt.Errorf("%w: not a canonical ed25519 point", ErrInvalid)
	}
	if new(edwards25519.Point).MultByCofactor(pt).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return ErrSmallOrder
	}
	return nil
}

// Signing is an Ed25519 private key.
type Signing struct {
	private ed25519.PrivateKey
	public  Public
}

// NewSigning takes a 32-byte seed.
func NewSigning(seed []byte) (*Signing, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: seed has %d bytes", ErrInvalid, len(seed))
	}
	s := &Signing{private: ed25519.NewKeyFromSeed(seed)}
	copy(s.public[:], s.private[32:])
	return s, nil
}

// Public is the key that verifies what s signs.
func (s *Signing) Public() Public { return s.public }

// Sign returns the 64-byte signature over msg.
func (s *Signing) Sign(msg []byte) []byte { return ed25519.Sign(s.private, msg) }

// Signer is s for crypto/x509 and crypto/tls.
func (s *Signing) Signer() crypto.Signer { return s.private }

// Equal compares in constant time.
func (s *Signing) Equal(o *Signing) bool {
	return subtle.ConstantTimeCompare(s.private, o.private) == 1
}

// String never shows the key.
func (s *Signing) String() string { return "signing key (redacted)" }

// GoString never shows the key.
func (s *Signing) GoString() string { return s.String() }

// Sealing is an X25519 private key.
type Sealing struct {
	private *ecdh.PrivateKey
	public  Public
}

// NewSealing takes 32 random bytes.
func NewSealing(b []byte) (*Sealing, error) {
	p, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	s := &Sealing{private: p}
	copy(s.public[:], p.PublicKey().Bytes())
	return s, nil
}

// Public is the key that others seal to.
func (s *Sealing) Public() Public { return s.public }

// Agree returns the X25519 shared secret; a peer's low-order point is an error.
func (s *Sealing) Agree(peer Public) ([]byte, error) {
	p, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	b, err := s.private.ECDH(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return b, nil
}

// Equal compares in constant time.
func (s *Sealing) Equal(o *Sealing) bool {
	return subtle.ConstantTimeCompare(s.private.Bytes(), o.private.Bytes()) == 1
}

// String never shows the key.
func (s *Sealing) String() string { return "sealing key (redacted)" }

// GoString never shows the key.
func (s *Sealing) GoString() string { return s.String() }

// Pair is what a node has: one key that signs and one that is sealed to.
type Pair struct {
	Signing *Signing
	Sealing *Sealing
}

// Generate makes a new pair from 64 bytes of rand.
func Generate(rand io.Reader) (*Pair, error) {
	var b [2 * Size]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, fmt.Errorf("key: read randomness: %w", err)
	}
	return newPair(b[:Size], b[Size:])
}

func newPair(signing, sealing []byte) (*Pair, error) {
	s, err := NewSigning(signing)
	if err != nil {
		return nil, err
	}
	e, err := NewSealing(sealing)
	if err != nil {
		return nil, err
	}
	return &Pair{Signing: s, Sealing: e}, nil
}
