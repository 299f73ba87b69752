package discovery

import (
	"context"
	"errors"
	"net/netip"
)

// errBusy is a prober's word for: the kernel has no room for another unresolved neighbour now; ask again later.
var errBusy = errors.New("neighbour table is full")

// host is what this package needs of the machine. kernel is the real one, on each platform.
type host interface {
	interfaces() ([]Interface, error)
	neighbours() ([]entry, error)
	routes() ([]nextHop, error)                            // default routes with a gateway, of all interfaces
	preferred(v6 bool) (index int, via netip.Addr, _ bool) // the gateway that packets to the internet take
	prober(ctx context.Context, on Interface) (prober, error)
}

// prober makes the neighbours on one interface show themselves. It is used by one goroutine.
type prober interface {
	touch(addr netip.Addr) error // a datagram, which makes the kernel resolve addr
	ask(addr netip.Addr) error   // an ARP request where raw sockets are allowed, else touch
	heard() []sighting           // answers to ask since the last call, where they do not stand in the kernel's table
	hears() bool                 // whether heard can ever say anything
	allNodes()                   // asks every IPv6 node to answer; without the right to do so, nothing
	Close() error
}

// sighting is one answer of a neighbour.
type sighting struct {
	Addr netip.Addr
	MAC  MAC
}

// entry is a resolved line of the kernel's neighbour table.
type entry struct {
	Index int
	Addr  netip.Addr // without zone
	MAC   MAC
	Fresh bool // confirmed lately; else it was true once
}

// nextHop is a default route through a gateway.
type nextHop struct {
	Index  int
	Via    netip.Addr // without zone
	V6     bool       // the family that the route is for; an IPv4 route may go via an IPv6 gateway
	Metric uint32
	Source netip.Addr // preferred source, if the kernel names one
}

// kernel is this machine.
type kernel struct{}

var _ host = kernel{}

func (kernel) interfaces() ([]Interface, error) { return Interfaces() }

// defaultLike takes in the halves by which VPNs cover the default route, and the 2000::/3 that some routers announce.
func defaultLike(dst netip.Prefix) bool {
	if dst.Addr().Is4() {
		return dst.Bits() <= 1
	}
	return dst.Bits() <= 1 || dst == netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3)
}
