package endpoint

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Rate is a token bucket's measure.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// Limits bound what strangers and peers can make an endpoint keep or do. Zero fields take the default.
type Limits struct {
	Sessions      int     // 65,536; the longest unused are dropped
	Peers         int     // 65,536 an identity
	Calls         int     // 65,536 under way
	Waiting       int     // 256 calls that wait for one peer's session
	ReplaySenders int     // 131,072 live senders an identity
	ReplayIDs     int     // 2,097,152 message IDs an identity
	PublicKeyRate float64 // 4,000 signed messages a second; above it a cookie is asked for, at twice it all are dropped
	// By source prefix:
	Handshakes Rate // 100, burst 1,000
	GetNodes   Rate // 20, burst 200
	Hints      Rate // 200, burst 2,000
	StalePongs Rate // 10, burst 50
	Cookies    Rate // 200, burst 2,000
}

func (l *Limits) defaults() {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	rate := func(p *Rate, per, burst float64) {
		if p.PerSecond <= 0 {
			*p = Rate{per, burst}
		}
	}
	set(&l.Sessions, 1<<16)
	set(&l.Peers, 1<<16)
	set(&l.Calls, 1<<16)
	set(&l.Waiting, 256)
	set(&l.ReplaySenders, 1<<17)
	set(&l.ReplayIDs, 1<<21)
	if l.PublicKeyRate <= 0 {
		l.PublicKeyRate = 4000
	}
	rate(&l.Handshakes, 100, 1000)
	rate(&l.GetNodes, 20, 200)
	rate(&l.Hints, 200, 2000)
	rate(&l.StalePongs, 10, 50)
	rate(&l.Cookies, 200, 2000)
}

type bucket struct {
	tokens float64
	last   int64 // unix ns
}

func (b *bucket) refill(now time.Time, r Rate) {
	at := now.UnixNano()
	if b.last == 0 {
		b.tokens, b.last = r.Burst, at
	}
	d := time.Duration(max(at-b.last, 0)).Seconds()
	b.tokens = min(b.tokens+d*r.PerSecond, r.Burst)
	b.last = at // also where the clock was set back
}

const prefixSlots = 1024

// prefixLimiter limits by source prefix in fixed memory: prefixes share buckets by a keyed hash, so that a flood from many
// addresses makes no table grow.
type prefixLimiter struct {
	rate Rate
	seed uint64

	mu    sync.Mutex
	slots []bucket // made at first use
}

func (l *prefixLimiter) allow(now time.Time, from netip.AddrPort) bool {
	return l.take(now, prefixHash(l.seed, from.Addr()))
}

func (l *prefixLimiter) take(now time.Time, hash uint64) bool {
	i := hash % prefixSlots
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots == nil {
		l.slots = make([]bucket, prefixSlots)
	}
	b := &l.slots[i]
	b.refill(now, l.rate)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// prefixHash mixes the /24 of an IPv4 and the /56 of an IPv6 address with the seed.
func prefixHash(seed uint64, a netip.Addr) uint64 {
	var v uint64
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		v = 1<<63 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	} else {
		b := a.As16()
		for _, x := range b[:7] {
			v = v<<8 | uint64(x)
		}
	}
	return mix(seed, v)
}

func mix(seed, v uint64) uint64 {
	for range 2 {
		v ^= seed
		v ^= v >> 30
		v *= 0xbf58476d1ce4e5b9
		v ^= v >> 27
		v *= 0x94d049bb133111eb
		v ^= v >> 31
	}
	return v
}

// load measures how many public-key operations strangers ask for.
type load struct {
	rate    float64
	pressed atomic.Bool

	mu sync.Mutex
	b  bucket
}

// take counts one. busy says that a cookie is needed, over that even with one nothing more can be done.
func (l *load) take(now time.Time, cookie bool) (busy, over bool) {
	if !cookie && l.pressed.Load() {
		return true, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.refill(now, Rate{l.rate, l.rate})
	switch {
	case l.b.tokens >= 1:
		l.b.tokens--
		return false, false
	case !cookie:
		return true, false
	case l.b.tokens > -l.rate:
		l.b.tokens--
		return false, false
	}
	return true, true
}
