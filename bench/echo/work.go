package echo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Size is a datagram of the echoes.
const Size = 200

var (
	errBytes = errors.New("other bytes came back than were asked for")
	errOpen  = errors.New("a datagram does not open")
)

// Asker makes requests and checks answers; a window's datagrams may be anything between in the order. One loop uses it.
type Asker interface {
	// Ask writes request n into b, which has 200 bytes or more, and returns its length.
	Ask(b []byte, n uint64) int
	// Check takes an answer.
	Check(b []byte) error
}

// responder answers in place.
type responder func(b []byte) error

// plain sends a number at both ends of the datagram.
type plain struct{}

func (plain) Ask(b []byte, n uint64) int {
	binary.BigEndian.PutUint64(b, n)
	binary.BigEndian.PutUint64(b[Size-8:], n)
	return Size
}

func (plain) Check(b []byte) error {
	if len(b) != Size || binary.BigEndian.Uint64(b) != binary.BigEndian.Uint64(b[Size-8:]) {
		return errBytes
	}
	return nil
}

func plainRespond([]byte) error { return nil }

// sealed seals what plain sends: counter 8 ‖ ciphertext ‖ tag 16.
type sealed struct {
	there, back cipher.AEAD
	nonce       [12]byte
	sent        uint64
}

const (
	sealHead = 8
	sealTag  = 16
)

func newSealed() (*sealed, error) {
	var s sealed
	for i, a := range []*cipher.AEAD{&s.there, &s.back} {
		k := sha256.Sum256([]byte{byte(i)})
		b, err := aes.NewCipher(k[:])
		if err != nil {
			return nil, err
		}
		if *a, err = cipher.NewGCM(b); err != nil {
			return nil, err
		}
	}
	return &s, nil
}

func (s *sealed) seal(a cipher.AEAD, b []byte) {
	s.sent++
	binary.BigEndian.PutUint64(b, s.sent)
	copy(s.nonce[4:], b[:sealHead])
	a.Seal(b[sealHead:sealHead], s.nonce[:], b[sealHead:Size-sealTag], b[:sealHead])
}

func (s *sealed) open(a cipher.AEAD, b []byte) error {
	if len(b) != Size {
		return errBytes
	}
	copy(s.nonce[4:], b[:sealHead])
	_, err := a.Open(b[sealHead:sealHead], s.nonce[:], b[sealHead:], b[:sealHead])
	return err
}

func (s *sealed) Ask(b []byte, n uint64) int {
	binary.BigEndian.PutUint64(b[sealHead:], n)
	s.seal(s.there, b)
	return Size
}

func (s *sealed) Check(b []byte) error { return s.open(s.back, b) }

func (s *sealed) respond(b []byte) error {
	if err := s.open(s.there, b); err != nil {
		return errOpen
	}
	s.seal(s.back, b)
	return nil
}

// signed signs: text ‖ signature 64.
type signed struct {
	own   ed25519.PrivateKey
	other ed25519.PublicKey
}

// newSigned makes one side's keys, 0 or 1.
func newSigned(side int) *signed {
	var keys [2]ed25519.PrivateKey
	for i := range keys {
		h := sha256.Sum256([]byte{'s', byte(i)})
		keys[i] = ed25519.NewKeyFromSeed(h[:])
	}
	return &signed{own: keys[side], other: keys[1-side].Public().(ed25519.PublicKey)}
}

const signedText = Size - ed25519.SignatureSize

func (s *signed) sign(b []byte) { copy(b[signedText:], ed25519.Sign(s.own, b[:signedText])) }

func (s *signed) Ask(b []byte, n uint64) int {
	binary.BigEndian.PutUint64(b, n)
	s.sign(b[:Size])
	return Size
}

func (s *signed) Check(b []byte) error {
	if len(b) != Size || !ed25519.Verify(s.other, b[:signedText], b[signedText:]) {
		return errOpen
	}
	return nil
}

func (s *signed) respond(b []byte) error {
	if err := s.Check(b); err != nil {
		return err
	}
	s.sign(b)
	return nil
}
