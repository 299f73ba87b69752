package discovery

import (
	"fmt"
	"net"
	"net/netip"
)

// Interface is an active network interface: up, running, not loopback, with at least one address.
type Interface struct {
	Name     string
	Index    int
	MAC      MAC
	Layer3   bool           // no link-layer addresses: tunnels and point-to-point links
	Prefixes []netip.Prefix // its own addresses, each with the length of the prefix that is on-link with it
}

// Interfaces lists the active interfaces of this machine.
func Interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	const active = net.FlagUp | net.FlagRunning
	var out []Interface
	for _, ifi := range all {
		if ifi.Flags&active != active || ifi.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away since the list was made
		}
		v := Interface{Name: ifi.Name, Index: ifi.Index, MAC: macOf(ifi.HardwareAddr),
			Layer3: len(ifi.HardwareAddr) == 0 || ifi.Flags&net.FlagPointToPoint != 0}
		for _, a := range addrs {
			if p, ok := prefixOf(a); ok {
				v.Prefixes = append(v.Prefixes, p)
			}
		}
		if len(v.Prefixes) > 0 {
			out = append(out, v)
		}
	}
	return out, nil
}

func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	ones, size := n.Mask.Size()
	if size == 0 {
		return netip.Prefix{}, false // a mask with holes would read as a prefix of everything
	}
	if size == 128 && ip.Is4() {
		ones -= 96
	}
	p := netip.PrefixFrom(ip, ones)
	return p, p.IsValid() && !ip.IsUnspecified() && !ip.IsLoopback()
}

// onLink returns the longest prefix of the interface that holds addr, unmasked: its address is the interface's own.
func (i Interface) onLink(addr netip.Addr) (netip.Prefix, bool) {
	var best netip.Prefix
	for _, p := range i.Prefixes {
		if p.Contains(addr) && (!best.IsValid() || p.Bits() > best.Bits()) {
			best = p
		}
	}
	return best, best.IsValid()
}

// reaches reports whether addr can be a device on the interface's link: on-link, of a kind that belongs to one machine, not ours.
func (i Interface) reaches(addr netip.Addr) bool {
	if i.Layer3 || !deviceAddr(addr) {
		return false
	}
	inside := false
	for _, p := range i.Prefixes {
		if p.Addr() == addr {
			return false
		}
		if p.Contains(addr) {
			if edgeOf(p, addr) {
				return false // of any of its prefixes: the kernel would broadcast it
			}
			inside = true
		}
	}
	return inside
}

// deviceAddr refuses what a tunnel may never reach, whatever the neighbour table says.
func deviceAddr(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b[0] < 224 // 0/8 is this host; 224 and above is multicast, reserved and broadcast
	}
	return true
}

// edgeOf reports whether addr is the network's or the broadcast address of an IPv4 prefix, or IPv6's anycast of the routers.
func edgeOf(p netip.Prefix, addr netip.Addr) bool {
	if p.Bits() >= addr.BitLen()-1 {
		return false // /31 and /32, /127 and /128 have no edges
	}
	if p.Masked().Addr() == addr {
		return true
	}
	return addr.Is4() && lastOf(p) == addr
}

func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// owner finds the interface on whose link addr is; no interface may have the address itself.
func owner(ifs []Interface, addr netip.Addr) (Interface, bool) {
	var best Interface
	var bits = -1
	for _, i := range ifs {
		for _, p := range i.Prefixes {
			if p.Addr() == addr {
				return Interface{}, false
			}
		}
		if p, ok := i.onLink(addr); ok && i.reaches(addr) && p.Bits() > bits {
			best, bits = i, p.Bits()
		}
	}
	return best, bits >= 0
}
