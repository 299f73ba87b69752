package endpoint

import (
	"encoding/binary"
	"net/netip"
	"time"

	"culvert/protocol"
)

// Limiter limits what others ask of a service beside the endpoint, in the fixed memory of its own limits: whoever shares a
// slot shares its allowance. It is safe for concurrent use.
type Limiter struct{ l prefixLimiter }

// NewLimiter makes a limiter; the seed keeps others from choosing whom they share a slot with.
func NewLimiter(rate Rate, seed uint64) *Limiter {
	return &Limiter{prefixLimiter{rate: rate, seed: seed}}
}

// AllowSource takes one from the allowance of a source's prefix: the /24 of an IPv4, the /56 of an IPv6 address.
func (l *Limiter) AllowSource(now time.Time, from netip.AddrPort) bool { return l.l.allow(now, from) }

// AllowNode takes one from the allowance of a node.
func (l *Limiter) AllowNode(now time.Time, id protocol.ID) bool {
	return l.l.take(now, mix(l.l.seed, binary.BigEndian.Uint64(id[protocol.IDSize-8:])))
}
