package dht

import (
	"sync"
	"time"

	"culvert/protocol"

	"golang.org/x/time/rate"
)

// Limits of one super-node; zero fields take the default.
type Limits struct {
	DomainRecords int     // 10,000: records of a domain that are always allowed
	PerEnrolled   int     // 4: or so many for each enrolled node and device, if that is more; negative for none
	NodePuts      float64 // 10: puts a second of one node
	NodeBurst     int     // 100
	DomainPuts    float64 // 2,000: puts a second of one domain
	DomainBurst   int     // 20,000
	Senders       int     // 65,536: nodes and domains whose rates are remembered
}

func (l *Limits) fill() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.DomainRecords, 10_000)
	set(&l.PerEnrolled, 4)
	set(&l.NodeBurst, 100)
	set(&l.DomainBurst, 20_000)
	set(&l.Senders, 1<<16)
	if l.NodePuts == 0 {
		l.NodePuts = 10
	}
	if l.DomainPuts == 0 {
		l.DomainPuts = 2000
	}
}

// quota is how many records a domain may have here.
func (l Limits) quota(c Counts) int {
	return max(l.DomainRecords, l.PerEnrolled*(c.Nodes+c.Devices))
}

// rates limits puts by node and by domain, each for itself. A domain is ID{domain, zero hash}.
type rates struct {
	limits Limits

	mu      sync.Mutex
	buckets map[protocol.ID]*rate.Limiter
}

func newRates(l Limits) *rates {
	return &rates{limits: l, buckets: make(map[protocol.ID]*rate.Limiter)}
}

// allow takes one token of the node and one of its domain, or none.
func (r *rates) allow(now time.Time, sender protocol.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.bucketLocked(now, sender, r.limits.NodePuts, r.limits.NodeBurst)
	d := r.bucketLocked(now, protocol.NewID(sender.Domain(), protocol.Hash{}), r.limits.DomainPuts, r.limits.DomainBurst)
	if n.TokensAt(now) < 1 || d.TokensAt(now) < 1 {
		return false
	}
	return n.AllowN(now, 1) && d.AllowN(now, 1)
}

func (r *rates) bucketLocked(now time.Time, id protocol.ID, perSecond float64, burst int) *rate.Limiter {
	b := r.buckets[id]
	if b == nil {
		if len(r.buckets) >= r.limits.Senders {
			r.shrinkLocked(now)
		}
		b = rate.NewLimiter(rate.Limit(perSecond), burst)
		r.buckets[id] = b
	}
	return b
}

// shrinkLocked forgets those that are full again, for whom a new bucket is the same; where that is nobody, an arbitrary half.
func (r *rates) shrinkLocked(now time.Time) {
	for id, b := range r.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(r.buckets, id)
		}
	}
	for id := range r.buckets {
		if len(r.buckets) <= r.limits.Senders/2 {
			return
		}
		delete(r.buckets, id)
	}
}
