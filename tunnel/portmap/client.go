package portmap

import (
	"context"
	"net/netip"
	"time"
)

// kind is a protocol as it is asked; kinds stand in the order in which they are preferred where several wait.
type kind uint8

const (
	kindPCP kind = iota
	kindPMP
	kindUPnP
	kindPinhole
)

func (k kind) String() string {
	return [...]string{"pcp", "nat-pmp", "upnp", "upnp-pinhole"}[k]
}

// kindsFor are the protocols that can serve a gateway's family.
func kindsFor(g Gateway) []kind {
	if g.Local.Is4() {
		return []kind{kindPCP, kindPMP, kindUPnP}
	}
	return []kind{kindPCP, kindPinhole}
}

const (
	// leaseTime is what is asked for.
	leaseTime = time.Hour
	// minLease bounds how often a router that grants next to nothing is asked.
	minLease = 10 * time.Second
)

// grant is what a router has opened for us.
type grant struct {
	by       string
	external netip.Addr
	tcp, udp uint16        // external ports; 0: not open
	pins     [2]pinhole    // UPnP pinholes: TCP, UDP
	lease    time.Duration // how long it lasts, or until it is to be looked after where it is permanent
	epoch    epoch
}

type pinhole struct {
	id   uint16
	open bool
}

// pulse is what a cheap look at a grant shows.
type pulse struct {
	lost     bool       // the router no longer knows it
	external netip.Addr // where the protocol says it
	epoch    epoch
}

// client speaks one protocol with one router. Its calls come one at a time; all of them end with ctx.
type client interface {
	// probe asks whether the protocol is spoken and changes nothing. external is invalid where that is not said before a
	// mapping is made.
	probe(ctx context.Context) (by string, external netip.Addr, err error)
	// open opens both ports or renews them; have is what was granted before. One port alone is a success.
	open(ctx context.Context, have grant) (grant, error)
	check(ctx context.Context, have grant) (pulse, error)
	release(ctx context.Context, have grant) error
}

// clampLease makes of what a router grants what is believed.
func clampLease(seconds uint32) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, minLease), leaseTime)
}
