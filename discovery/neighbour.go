package discovery

import "net/netip"

// Neighbour reports the MAC that the kernel's neighbour table has for addr, if addr is on-link (see OnLink) and known there.
// It asks nothing of the network: Finder.Find makes an address known.
func Neighbour(addr netip.Addr) (MAC, bool) { return neighbourOf(kernel{}, addr) }

// OnLink reports whether addr can be another machine on the link of one of the active interfaces. It is false for every
// address of this machine and for loopback, link-local, multicast, broadcast, unspecified and reserved addresses.
func OnLink(addr netip.Addr) bool { return onLinkOf(kernel{}, addr) }

func neighbourOf(h host, addr netip.Addr) (MAC, bool) {
	addr = addr.Unmap() // a dialler treats a mapped address as the IPv4 one, so must the guard
	ifs, err := h.interfaces()
	if err != nil {
		return MAC{}, false
	}
	on, ok := owner(ifs, addr)
	if !ok {
		return MAC{}, false
	}
	mac, _ := lookup(h, on.Index, addr)
	return mac, mac.IsUnicast()
}

func onLinkOf(h host, addr netip.Addr) bool {
	ifs, err := h.interfaces()
	if err != nil {
		return false
	}
	_, ok := owner(ifs, addr.Unmap())
	return ok
}
