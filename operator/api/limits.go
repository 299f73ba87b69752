package api

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"culvert/protocol/enrol"

	"golang.org/x/time/rate"
)

const (
	requestRate  = 50 // a second, of one address
	requestBurst = 300
	maxTracked   = 16384
)

// limits bounds how often one address asks. What guards tokens and keys is their 256 bits; this guards the operator's time.
type limits struct {
	mu      sync.Mutex
	buckets map[netip.Prefix]*bucket
}

type bucket struct {
	limiter *rate.Limiter
	used    time.Time
}

func newLimits() *limits { return &limits{buckets: make(map[netip.Prefix]*bucket)} }

func (l *limits) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.allow(r.RemoteAddr, time.Now()) {
			w.Header().Set("Retry-After", "1")
			writeError(w, enrol.ErrRateLimited)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (l *limits) allow(remote string, now time.Time) bool {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return true // no network address: a test's or the process's own
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64 // one customer's whole subnet
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[p]
	if !ok {
		l.makeRoomLocked(now)
		b = &bucket{limiter: rate.NewLimiter(requestRate, requestBurst)}
		l.buckets[p] = b
	}
	b.used = now
	return b.limiter.AllowN(now, 1)
}

// makeRoomLocked forgets addresses whose bucket is full again, and if those are few any, so that a quarter is free: going
// through all of them then costs each newcomer next to nothing.
func (l *limits) makeRoomLocked(now time.Time) {
	if len(l.buckets) < maxTracked {
		return
	}
	for p, b := range l.buckets {
		if now.Sub(b.used) > requestBurst/requestRate*time.Second {
			delete(l.buckets, p)
		}
	}
	for p := range l.buckets {
		if len(l.buckets) < maxTracked*3/4 {
			return
		}
		delete(l.buckets, p)
	}
}
