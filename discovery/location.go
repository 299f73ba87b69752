package discovery

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
)

// ErrLocationID is returned for a text that is not 64 hexadecimal digits.
var ErrLocationID = errors.New("not a location id")

// LocationID names a place within one domain. It is compared whole; Short is for people's eyes only.
type LocationID [sha256.Size]byte

// Location is a place that this machine is at.
type Location struct {
	ID        LocationID   `json:"id"`
	Interface string       `json:"interface"`
	Prefix    netip.Prefix `json:"prefix"`
	Gateway   netip.Addr   `json:"gateway"`
}

// NewLocationID computes the ID of the network prefix behind the gateway with that MAC, under the domain's location secret.
func NewLocationID(secret [32]byte, gateway MAC, prefix netip.Prefix) LocationID {
	prefix = prefix.Masked()
	addr := prefix.Addr().As16()
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte("culvert location 1\x00"))
	m.Write(gateway[:])
	m.Write([]byte{byte(prefix.Bits())})
	m.Write(addr[:])
	return LocationID(m.Sum(nil))
}

// Locate gives one location for each interface that has a usable gateway, in the order of gateways (the default route's first).
func Locate(gateways []Gateway, secret [32]byte) []Location {
	out := make([]Location, 0, len(gateways))
	done := make(map[int]bool, len(gateways))
	for _, g := range gateways {
		if done[g.Index] || !g.Prefix.IsValid() || (g.MAC.IsZero() && !g.Layer3) {
			continue
		}
		done[g.Index] = true
		out = append(out, Location{NewLocationID(secret, g.MAC, g.Prefix), g.Interface, g.Prefix.Masked(), g.Addr})
	}
	return out
}

// ParseLocationID reads the whole ID.
func ParseLocationID(s string) (LocationID, error) {
	var id LocationID
	if len(s) != hex.EncodedLen(len(id)) {
		return LocationID{}, fmt.Errorf("%w: %d characters instead of %d", ErrLocationID, len(s), hex.EncodedLen(len(id)))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return LocationID{}, fmt.Errorf("%w: %w", ErrLocationID, err)
	}
	return id, nil
}

// String is the whole ID, 64 hexadecimal digits.
func (id LocationID) String() string { return hex.EncodeToString(id[:]) }

// Short is the first 16 hexadecimal digits.
func (id LocationID) Short() string { return hex.EncodeToString(id[:8]) }

// MarshalText implements encoding.TextMarshaler.
func (id LocationID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *LocationID) UnmarshalText(b []byte) error {
	v, err := ParseLocationID(string(b))
	if err == nil {
		*id = v
	}
	return err
}
