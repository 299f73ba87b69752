package portmap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"culvert/protocol"
)

// Gateway is a router, and where this machine is on its link. Comparable: one that changes in anything is another.
type Gateway struct {
	Addr      netip.Addr // without zone
	Local     netip.Addr // what is to be mapped: private (IPv4), or public (IPv6)
	Interface string
}

// Mapping is a port that a router has opened.
type Mapping struct {
	Protocol protocol.Transport
	External netip.AddrPort
	Internal netip.AddrPort
	By       string // one of the By constants
	Expires  time.Time
}

// How a mapping was made.
const (
	ByIGD1   = "upnp-igd1"
	ByIGD2   = "upnp-igd2"
	ByNATPMP = "nat-pmp"
	ByPCP    = "pcp"
)

// State is how far a protocol got with a router.
type State string

const (
	Asking    State = "asking"    // no answer yet
	Absent    State = "absent"    // no answer, or one that says no
	Available State = "available" // it answers; another one serves, or it is about to open
	Refused   State = "refused"   // it answers, and opens nothing
	Unusable  State = "unusable"  // its external address is not one of the internet: a NAT above it
	Open      State = "open"      // it has opened the port; nobody has been seen to come through yet
	Unreached State = "unreached" // … and nobody did come through
	Serving   State = "serving"   // … and a super-node came through
)

// Status is what came of one protocol at one router.
type Status struct {
	Gateway  Gateway
	Protocol string // "upnp", "nat-pmp", "pcp", "upnp-pinhole"
	By       string // UPnP: the version found
	State    State
	External netip.Addr    // as the router has it, even where it is unusable
	Err      error         // why not
	Took     time.Duration // of the probe
}

// ErrNotReached is for Verify: a super-node has tried and did not come through. Other errors say nothing about the mapping.
var ErrNotReached = errors.New("a super-node did not come through")

var (
	errSilent   = errors.New("no answer")
	errUnusable = errors.New("the external address is not one of the internet: there is another NAT above this router")
	errConflict = errors.New("every port that was tried is taken by another machine")
	errFirewall = errors.New("the router lets nobody open its firewall")
)

// refusedError is a router's no.
type refusedError struct {
	code int
	text string
}

func (e *refusedError) Error() string { return fmt.Sprintf("the router says %d %s", e.code, e.text) }

// Config is what a Mapper needs. Port, Gateways and Verify are required.
type Config struct {
	Port     uint16
	Gateways func() []Gateway // at most maxSites are used
	// Verify has the mapping tried from outside. An error that is ErrNotReached counts against it.
	Verify func(ctx context.Context, m Mapping) error
	// Changed gets the new Mappings, one call at a time. It must not wait for the Mapper.
	Changed func([]Mapping)
	Secret  []byte // kept over restarts; random where empty
	Log     *slog.Logger
	Now     func() time.Time
}

// usable reports whether the internet may reach addr.
func usable(a netip.Addr) bool {
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.Is4In6() || a.Zone() != "" {
		return false
	}
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b[0] < 240 && !(b[0] == 100 && b[1]&0xc0 == 64)
	}
	return true
}
