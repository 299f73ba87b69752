package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrMAC is returned for what is not the MAC of one device: wrong length, all zero, or a group address.
var ErrMAC = errors.New("not a device's MAC address")

// MAC is an Ethernet address; zero means unknown.
type MAC [6]byte

// ParseMAC reads the usual forms (02:00:5e:10:00:01, 02-00-…, 0200.5e10.0001) of a device's MAC.
func ParseMAC(s string) (MAC, error) {
	h, err := net.ParseMAC(s)
	if err != nil || len(h) != len(MAC{}) || !MAC(h).IsUnicast() {
		return MAC{}, fmt.Errorf("%w: %q", ErrMAC, s)
	}
	return MAC(h), nil
}

// String is the lower case form with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether the MAC is unknown.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast reports whether m can be the MAC of one device.
func (m MAC) IsUnicast() bool { return !m.IsZero() && m[0]&1 == 0 }

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err == nil {
		*m = v
	}
	return err
}

// eui64 is the address that a device with this MAC gives itself in a /64 where it does not hide behind a random one.
func (m MAC) eui64(p netip.Prefix) (netip.Addr, bool) {
	if p.Bits() != 64 || !p.Addr().Is6() {
		return netip.Addr{}, false
	}
	a := p.Addr().As16()
	copy(a[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(a), true
}

func macOf(b []byte) MAC {
	if len(b) != len(MAC{}) {
		return MAC{}
	}
	return MAC(b)
}
