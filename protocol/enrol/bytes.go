package enrol

import (
	"encoding/hex"
	"fmt"
)

// Bytes32 is a public key or hash, hex in JSON.
type Bytes32 [32]byte

// String is the value in hex.
func (b Bytes32) String() string { return hex.EncodeToString(b[:]) }

// MarshalText implements encoding.TextMarshaler.
func (b Bytes32) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes32) UnmarshalText(t []byte) error { return unhex(b[:], t) }

// Secret is 32 secret bytes: hex in JSON, and never shown when printed.
type Secret [32]byte

// String never shows the secret.
func (Secret) String() string { return "secret (redacted)" }

// GoString never shows the secret.
func (s Secret) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(t []byte) error { return unhex(s[:], t) }

func unhex(dst, t []byte) error {
	if len(t) != 2*len(dst) {
		return fmt.Errorf("%w: %d characters where %d hex digits belong", ErrBadRequest, len(t), 2*len(dst))
	}
	if _, err := hex.Decode(dst, t); err != nil {
		return fmt.Errorf("%w: not hex", ErrBadRequest)
	}
	return nil
}
