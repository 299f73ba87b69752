//go:build !linux

package nat

import (
	"context"
	"net/netip"
)

// CanHop reports whether Hop can tell anything on this system.
const CanHop = false

// Hop tells nothing here: no unprivileged socket hears of datagrams that died.
func Hop(context.Context, netip.AddrPort, int, []byte) (netip.Addr, bool, error) {
	return netip.Addr{}, false, nil
}
