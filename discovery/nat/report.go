package nat

import (
	"net/netip"
	"time"

	"culvert/protocol"
)

// Tri is an answer that may not be known.
type Tri uint8

const (
	Unknown Tri = iota
	No
	Yes
)

// String is "unknown", "no" or "yes".
func (t Tri) String() string {
	switch t {
	case No:
		return "no"
	case Yes:
		return "yes"
	}
	return "unknown"
}

func tri(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// Filtering is what a NAT or firewall lets in at the outside address of a socket, in the words of RFC 4787.
type Filtering uint8

const (
	FilteringUnknown     Filtering = iota
	FilteringIndependent           // whatever comes
	FilteringAddress               // from hosts that were written to
	FilteringPort                  // from the very address and port that were written to
)

// String names the behaviour, in snake case.
func (f Filtering) String() string {
	switch f {
	case FilteringIndependent:
		return "endpoint_independent"
	case FilteringAddress:
		return "address_dependent"
	case FilteringPort:
		return "address_and_port_dependent"
	}
	return "unknown"
}

// MappingName names the behaviour, in snake case.
func MappingName(m protocol.Mapping) string {
	switch m {
	case protocol.MappingIndependent:
		return "endpoint_independent"
	case protocol.MappingSequential:
		return "sequential"
	case protocol.MappingRandom:
		return "random"
	}
	return "unknown"
}

// Seen is how one server sees this node's own socket.
type Seen struct {
	Server  protocol.ID
	Addr    netip.AddrPort // of the server
	Mapped  netip.AddrPort // invalid where it did not answer
	RTT     time.Duration
	Trusted bool
}

// Family is what was found out for one address family.
type Family struct {
	Works     bool // some server answered
	NAT       Tri  // addresses are translated
	Mapping   protocol.Mapping
	Step      uint16 // of MappingSequential, modulo 65,536
	Filtering Filtering
	Hairpin   Tri
	Mapped    netip.AddrPort // the node's own socket from outside, as servers agree; for a dependent mapping one of them
	Last      netip.AddrPort // MappingSequential: the newest flow's
}

// Report is what was found out. The zero Report knows nothing.
type Report struct {
	At      time.Time
	UDP     Tri
	V4, V6  Family
	Carrier Tri // the provider translates a second time
	Servers []Seen
}

// Works reports whether any family does.
func (r *Report) Works() bool { return r.V4.Works || r.V6.Works }

// Outside is the address by which the way out is recognised: another one is another NAT, or another provider.
func (r *Report) Outside() netip.Addr {
	if r.V4.Mapped.IsValid() {
		return r.V4.Mapped.Addr()
	}
	return r.V6.Mapped.Addr()
}

// shared is the address space of carrier-grade NATs, RFC 6598.
var shared = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)

// inside reports whether an address is one behind a NAT.
func inside(a netip.Addr) bool { return a.IsPrivate() || a.Is4() && shared.Contains(a) }
