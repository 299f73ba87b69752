package tunnel

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// Consent is one entry of the agent's own list (TUN-11).
type Consent struct {
	Device string          // name or ID
	Ports  []protocol.Port // number and protocol; at least one
	Groups []string        // of the requester; empty: whoever the device's record admits
}

func (c Consent) names(a Ask) bool {
	if protocol.FoldName(c.Device) != protocol.FoldName(a.Device.Value.Name) && !strings.EqualFold(c.Device, a.Device.ID.String()) {
		return false
	}
	port := slices.ContainsFunc(c.Ports, func(p protocol.Port) bool { return p.Number == a.Port && p.Protocol == a.Protocol })
	return port && protocol.InGroups(a.Requester.Groups, c.Groups)
}

// Ask is one connection that somebody wants from the node that would dial.
type Ask struct {
	Device    Device
	Requester *protocol.CertifiedNode
	Port      uint16
	Protocol  protocol.Transport
	Local     protocol.ID // the node that would dial
	Consent   []Consent   // its list
}

// Place is where the device was found.
type Place struct {
	Addr   netip.Addr
	MAC    [6]byte        // of the neighbour table, zero if unknown
	OnLink bool           // another machine on the link of one of the dialler's interfaces
	Own    []netip.Prefix // the dialler's addresses
}

// CheckRecord decides what can be decided before the device is looked for: domains, groups, port.
func CheckRecord(a Ask) error {
	d := a.Device.ID.Domain()
	if d == protocol.OperatorDomain || a.Requester.ID.Domain() != d || a.Local.Domain() != d {
		return notAllowed(link.ReasonGroup, "another domain")
	}
	if a.Port == 0 {
		return notAllowed(link.ReasonPort, "port 0")
	}
	v := a.Device.Value
	i := slices.IndexFunc(v.Ports, func(p protocol.Port) bool { return p.Number == a.Port && p.Protocol == a.Protocol })
	if i < 0 {
		return notAllowed(link.ReasonPort, "%s", protocol.PortString(a.Port, a.Protocol))
	}
	if !protocol.InGroups(a.Requester.Groups, v.Allow) || !protocol.InGroups(a.Requester.Groups, v.Ports[i].Allow) {
		return notAllowed(link.ReasonGroup, "port %s", protocol.PortString(a.Port, a.Protocol))
	}
	return nil
}

// CheckConsent applies the list of the node that would dial. An empty list agrees to everything registered that is found on
// the link or pinned; a list with entries agrees to what it names. The node's own loopback and a fixed address without a
// pin always want an entry, and so does a UDP port of a pinned device: it cannot prove its key there.
func CheckConsent(a Ask) error {
	v := a.Device.Value
	needs := len(a.Consent) > 0 || !v.Node.IsZero() || len(v.MAC) == 0 && len(v.TLSPin) == 0 ||
		len(v.TLSPin) > 0 && a.Protocol == protocol.UDP
	if needs && !slices.ContainsFunc(a.Consent, func(c Consent) bool { return c.names(a) }) {
		return notAllowed(link.ReasonConsent, "port %s", protocol.PortString(a.Port, a.Protocol))
	}
	return nil
}

// Check is the whole guard: it decides whether the node that would dial may connect this device at this place.
func Check(a Ask, at Place) error {
	if err := CheckRecord(a); err != nil {
		return err
	}
	if err := CheckConsent(a); err != nil {
		return err
	}
	v := a.Device.Value
	if !v.Node.IsZero() {
		if v.Node != a.Local || at.Addr != loopback() {
			return notAllowed(link.ReasonTarget, "")
		}
		return nil
	}
	if !at.Addr.IsValid() || at.Addr.Zone() != "" || at.Addr.Is4In6() || forbidden(at.Addr, at.Own) {
		return notAllowed(link.ReasonTarget, "")
	}
	switch {
	case len(v.MAC) == 6 && at.OnLink && at.MAC == [6]byte(v.MAC):
		return nil
	case len(v.MAC) == 0 && v.Address.IsValid() && at.Addr == v.Address.Unmap(): // with a MAC, only that counts
		return nil
	}
	return notAllowed(link.ReasonTarget, "")
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// forbidden reports whether no device can be at addr: this machine, and what is no single other machine. An IPv4 address
// inside an IPv6 one counts as itself.
func forbidden(addr netip.Addr, own []netip.Prefix) bool {
	if special(addr) {
		return true
	}
	for _, p := range own {
		a := p.Addr().Unmap().WithZone("")
		if addr == a || addr.Is4() && p.IsValid() && edge(addr, netip.PrefixFrom(a, p.Bits()).Masked()) {
			return true
		}
	}
	for _, in := range embedded(addr) {
		if forbidden(in, own) {
			return true
		}
	}
	return false
}

// special are the addresses that no tunnel reaches wherever it starts.
func special(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return true
	}
	if a.Is4() {
		b := a.As4()
		return b[0] == 0 || b[0] == 127 || b[0] >= 224
	}
	return false
}

// edge reports whether addr is the network's or the broadcast address of an IPv4 prefix.
func edge(addr netip.Addr, p netip.Prefix) bool {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() >= 31 || !p.Contains(addr) {
		return false
	}
	b := addr.As4()
	host := binary.BigEndian.Uint32(b[:]) << p.Bits() >> p.Bits()
	return host == 0 || host == 1<<(32-p.Bits())-1
}

// embedded are the IPv4 addresses that an IPv6 one may lead to: mapped, compatible, translated (RFC 2765), NAT64 with its
// well-known and local prefixes, 6to4, Teredo (server and client), ISATAP.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	zero := func(from, to int) bool {
		for _, c := range b[from:to] {
			if c != 0 {
				return false
			}
		}
		return true
	}
	var l []netip.Addr
	switch {
	case zero(0, 10) && b[10] == 0xff && b[11] == 0xff, zero(0, 12), zero(0, 8) && b[8] == 0xff && b[9] == 0xff && zero(10, 12):
		l = append(l, at(12))
	case b[0] == 0 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b:
		l = append(l, at(12))
		if b[5] == 1 { // 64:ff9b:1::/48: the address lies where RFC 6052 puts it for each length
			l = append(l, netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}), netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}), at(9))
		}
	case b[0] == 0x20 && b[1] == 0x02:
		l = append(l, at(2))
	case b[0] == 0x20 && b[1] == 0x01 && b[2] == 0 && b[3] == 0:
		l = append(l, at(4), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	if b[8]&0xfd == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		l = append(l, at(12))
	}
	return l
}
