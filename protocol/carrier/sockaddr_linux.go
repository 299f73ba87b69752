package carrier

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	sockaddrLen  = unix.SizeofSockaddrInet6
	sockaddr4Len = unix.SizeofSockaddrInet4
)

// sockaddr is a struct sockaddr_in or sockaddr_in6 as the kernel lays it out:
//
//	family 2 (native) | port 2 | address 4 | zero 8
//	family 2 (native) | port 2 | flow 4 | address 16 | scope 4 (native)
type sockaddr [sockaddrLen]byte

// decode reads the address that the kernel wrote with the given length.
func (s *sockaddr) decode(length uint32) (netip.AddrPort, bool) {
	if length < 2 || length > sockaddrLen {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(s[2:])
	switch family := binary.NativeEndian.Uint16(s[:]); {
	case family == unix.AF_INET && length >= sockaddr4Len:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port), true
	case family == unix.AF_INET6 && length >= sockaddrLen:
		addr := netip.AddrFrom16([16]byte(s[8:24])).Unmap()
		if addr.IsLinkLocalUnicast() && addr.Is6() {
			// The number is a valid zone everywhere, and needs no look-up that could go stale.
			addr = addr.WithZone(strconv.Itoa(int(binary.NativeEndian.Uint32(s[24:]))))
		}
		return netip.AddrPortFrom(addr, port), true
	}
	return netip.AddrPort{}, false
}

// encode writes addr for a socket of the given family and returns its length; false where such a
// socket cannot send there.
func (s *sockaddr) encode(family uint16, to netip.AddrPort) (uint32, bool) {
	addr := to.Addr()
	if !addr.IsValid() {
		return 0, false
	}
	binary.NativeEndian.PutUint16(s[:], family)
	binary.BigEndian.PutUint16(s[2:], to.Port())
	if family == unix.AF_INET {
		if addr = addr.Unmap(); !addr.Is4() {
			return 0, false
		}
		a := addr.As4()
		copy(s[4:8], a[:])
		clear(s[8:16])
		return sockaddr4Len, true
	}
	var scope uint32
	if zone := addr.Zone(); zone != "" {
		var ok bool
		if scope, ok = scopeOf(zone); !ok {
			return 0, false
		}
	}
	a := addr.As16()
	clear(s[4:8])
	copy(s[8:24], a[:])
	binary.NativeEndian.PutUint32(s[24:], scope)
	return sockaddrLen, true
}

// scopeOf turns a zone, a number or an interface's name, into the kernel's scope.
func scopeOf(zone string) (uint32, bool) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), true
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, false
	}
	return uint32(ifi.Index), true
}
