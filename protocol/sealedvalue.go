package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrDomainKey marks a sealed value for whose epoch no domain key is held, or that does not open.
var ErrDomainKey = errors.New("protocol: value does not open with the domain keys held")

// DomainKey seals values of one domain; it is replaced after a revocation, so it has an epoch.
type DomainKey struct {
	Epoch uint32   `json:"epoch"`
	Key   [32]byte `json:"key"`
}

// String never shows the key.
func (k DomainKey) String() string { return fmt.Sprintf("domain key %d (redacted)", k.Epoch) }

// GoString never shows the key.
func (k DomainKey) GoString() string { return k.String() }

// DomainSecrets is what members of a domain hold and super-nodes do not: keys that seal, and the secret that never changes.
type DomainSecrets struct {
	Domain Domain
	Keys   []DomainKey // newest first; at least two epochs stay readable
	Secret [32]byte    // of location IDs and lookup keys; never changes
}

// String never shows a key.
func (s *DomainSecrets) String() string {
	return "secrets of domain " + s.Domain.String() + " (redacted)"
}

// GoString never shows a key.
func (s *DomainSecrets) GoString() string { return s.String() }

// LocationSecret keys location IDs.
func (s *DomainSecrets) LocationSecret() [32]byte { return s.derive("culvert 1 location secret") }

func (s *DomainSecrets) derive(label string) [32]byte {
	b, err := hkdf.Key(sha256.New, s.Secret[:], nil, label, 32)
	if err != nil {
		panic(err) // only for a length that the constant above rules out
	}
	return [32]byte(b)
}

func (s *DomainSecrets) lookup(label string, v []byte) Hash {
	k := s.derive("culvert 1 lookup secret")
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte(label))
	m.Write([]byte{0})
	m.Write(v)
	return Hash(m.Sum(nil))
}

// LocationKey is the lookup key of a location: super-nodes see it and never the location ID.
func (s *DomainSecrets) LocationKey(location Hash) Hash { return s.lookup("location", location[:]) }

// NameKey is the lookup key of a device's name.
func (s *DomainSecrets) NameKey(name string) Hash { return s.lookup("name", []byte(FoldName(name))) }

const sealedValueHead = 4 + 12

// SealValue seals a record's value: epoch 4 ‖ nonce 12 ‖ AES-256-GCM ciphertext ‖ tag, bound to table and owner.
func (s *DomainSecrets) SealValue(rand io.Reader, t Table, owner ID, plain []byte) ([]byte, error) {
	if len(s.Keys) == 0 {
		return nil, ErrDomainKey
	}
	b := make([]byte, sealedValueHead, sealedValueHead+len(plain)+16)
	binary.BigEndian.PutUint32(b, s.Keys[0].Epoch)
	if _, err := io.ReadFull(rand, b[4:sealedValueHead]); err != nil {
		return nil, fmt.Errorf("protocol: read randomness: %w", err)
	}
	a, err := newGCM(s.Keys[0].Key[:])
	if err != nil {
		return nil, err
	}
	return a.Seal(b, b[4:sealedValueHead], plain, sealedValueAD(t, owner)), nil
}

// OpenValue opens what SealValue sealed with any domain key still held.
func (s *DomainSecrets) OpenValue(t Table, owner ID, b []byte) ([]byte, error) {
	if len(b) < sealedValueHead+16 {
		return nil, fmt.Errorf("%w: %d bytes", ErrDomainKey, len(b))
	}
	epoch := binary.BigEndian.Uint32(b)
	for _, k := range s.Keys {
		if k.Epoch != epoch {
			continue
		}
		a, err := newGCM(k.Key[:])
		if err != nil {
			return nil, err
		}
		p, err := a.Open(nil, b[4:sealedValueHead], b[sealedValueHead:], sealedValueAD(t, owner))
		if err != nil {
			return nil, ErrDomainKey
		}
		return p, nil
	}
	return nil, fmt.Errorf("%w: epoch %d", ErrDomainKey, epoch)
}

func sealedValueAD(t Table, owner ID) []byte {
	return append(append([]byte("culvert 1 value\x00"), byte(t)), owner[:]...)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	c, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(c)
}
