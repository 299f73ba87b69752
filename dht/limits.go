package dht

import (
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"

	"golang.org/x/time/rate"
)

// Limits of one super-node; zero fields take the default.
type Limits struct {
	DomainRecords int     // 10,000: records of a domain that are always allowed
	PerEnrolled   int     // 4: or so many for each enrolled node and device, if that is more; negative for none
	RecordBytes   int     // 448: bytes of a domain's records, for each record that it may have
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
	set(&l.RecordBytes, 448)
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

// checkQuota keeps a domain to its share. Replacing costs no record, and no bytes where it is no longer than before; what an
// operator signed is counted but never refused.
//
// The NodeInfo of an agent in two networks with eight addresses has 533 bytes and its certificate 244, 388 on average, while a
// record may have 896: the bytes are the limit of who fills his records up, not of anybody else.
//
// more is what is on its way into the store.
func (s *Server) checkQuota(r *protocol.Record, more Counts) refusal {
	if r.Table != protocol.TableNodeInfo {
		return accepted
	}
	c, size := s.cfg.Store.Counts(r.Owner.Domain()), len(r.Raw())
	records := s.cfg.Limits.quota(c)
	c.Records, c.Bytes = c.Records+more.Records, c.Bytes+more.Bytes
	most := records * s.cfg.Limits.RecordBytes
	if c.Records < records && c.Bytes+size <= most {
		return accepted
	}
	if old, err := s.cfg.Store.Get(r.Table, r.Owner, r.Issued); err == nil && (size <= len(old) || c.Bytes+size-len(old) <= most) {
		return accepted
	}
	return refusal{protocol.StatusQuota, putRefusedQuota}
}

// collectEvery bounds how often a domain at its quota has the expired records collected: that is a transaction, which others would
// wait for.
const collectEvery = time.Second

// collect removes what has expired.
func (s *Server) collect(now time.Time) {
	last := s.rates.collected.Load()
	if since := now.UnixMilli() - last; since >= 0 && since < collectEvery.Milliseconds() || !s.rates.collected.CompareAndSwap(last, now.UnixMilli()) {
		return
	}
	ctx, cancel := s.commitContext()
	defer cancel()
	// Without success the quota stays as it is, which is what the caller looks at next.
	_, _ = s.cfg.Store.Expire(ctx, now)
}

// Overdrawn answers a Put of a node or domain that has used up its rate, and nothing else. It costs no more than a look, so it is
// asked before a message waits for a worker: a flood is shed before it takes the place of others, or anybody verifies a signature.
func (s *Server) Overdrawn(now time.Time, v *protocol.Verified) (out []protocol.Out, refused bool) {
	if v.Command != protocol.CmdPut || s.replicates(v.Sender) || s.rates.has(now, v.Sender) {
		return nil, false
	}
	return s.refuse(refusal{protocol.StatusLimit, putRefusedRate}), true
}

// rates limits puts by node and by domain, each for itself. A domain is ID{domain, zero hash}.
type rates struct {
	limits    Limits
	collected atomic.Int64 // when the expired were removed last, in unix ms

	mu      sync.Mutex
	buckets map[protocol.ID]*rate.Limiter
}

func newRates(l Limits) *rates {
	return &rates{limits: l, buckets: make(map[protocol.ID]*rate.Limiter)}
}

// has reports whether allow would say yes now.
func (r *rates) has(now time.Time, sender protocol.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range []protocol.ID{sender, protocol.NewID(sender.Domain(), protocol.Hash{})} {
		if b := r.buckets[id]; b != nil && b.TokensAt(now) < 1 {
			return false
		}
	}
	return true
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
