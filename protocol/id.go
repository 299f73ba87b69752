package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"culvert/protocol/key"
)

// Domain is the random number of one customer organisation, never reused. Operators and the root are in domain 0.
type Domain uint32

// OperatorDomain is where operator and root keys live.
const OperatorDomain Domain = 0

// ErrBadID marks text or bytes that are no ID.
var ErrBadID = errors.New("protocol: not a valid ID")

// String is the domain as eight hex digits.
func (d Domain) String() string { return fmt.Sprintf("%08x", uint32(d)) }

// ParseDomain reads what String wrote.
func ParseDomain(s string) (Domain, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 {
		return 0, fmt.Errorf("%w: domain %q wants eight hex digits", ErrBadID, s)
	}
	return Domain(n), nil
}

// Hash is a SHA-256 or HMAC-SHA-256 value.
type Hash [32]byte

// IsZero reports whether no hash is set.
func (h Hash) IsZero() bool { return h == Hash{} }

// IDSize is the length of an ID in bytes.
const IDSize = 36

// ID is domain (4 bytes, big endian) ‖ hash (32 bytes): of a node, an operator, an end-device, or a key of the DHT.
type ID [IDSize]byte

// NewID joins domain and hash.
func NewID(d Domain, h Hash) ID {
	var id ID
	binary.BigEndian.PutUint32(id[:4], uint32(d))
	copy(id[4:], h[:])
	return id
}

// NodeID is the ID of the node in domain d whose signing key is p.
func NodeID(d Domain, p key.Public) ID { return NewID(d, p.Hash()) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	d, h, ok := strings.Cut(s, "-")
	if !ok {
		return ID{}, fmt.Errorf("%w: %q wants DOMAIN-HASH in hex", ErrBadID, clip(s))
	}
	dom, err := ParseDomain(d)
	if err != nil {
		return ID{}, err
	}
	b, err := hex.DecodeString(h)
	if err != nil || len(b) != 32 {
		return ID{}, fmt.Errorf("%w: %q wants 64 hex digits after the domain", ErrBadID, clip(s))
	}
	return NewID(dom, Hash(b)), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Domain is the organisation that the ID belongs to.
func (id ID) Domain() Domain { return Domain(binary.BigEndian.Uint32(id[:4])) }

// Hash is the part after the domain.
func (id ID) Hash() Hash { return Hash(id[4:]) }

// Position is the ID's place in the key space over which ranges are cut: its first 64 bits.
func (id ID) Position() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// IsZero reports whether no ID is set.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs as the key space does.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// String is domain-hash in hex, whole: IDs are never shortened where they are compared.
func (id ID) String() string { return hex.EncodeToString(id[:4]) + "-" + hex.EncodeToString(id[4:]) }

// Short is for people's eyes only.
func (id ID) Short() string { return hex.EncodeToString(id[:4]) + "-" + hex.EncodeToString(id[4:8]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}
