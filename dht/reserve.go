package dht

import (
	"sync"
	"time"

	"culvert/protocol"
)

// reservations is what Puts on their way to the commit take of their domains' quotas: many commit at once, and all of them have
// looked at the same counts.
type reservations struct {
	mu sync.Mutex
	by map[protocol.Domain]Counts
}

// underWay is more than can be on its way to the commit at once, certificates with it. A domain that has so much room left needs
// no reservation.
const underWay = 2048

// take reserves what p brings, or refuses it.
func (t *reservations) take(s *Server, p *incoming) refusal {
	d := p.r.Owner.Domain()
	if s.checkQuota(p.r, Counts{Records: underWay, Bytes: underWay * protocol.MaxRecord}).ok() {
		return accepted
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ref := s.checkQuota(p.r, t.by[d]); !ref.ok() {
		return ref
	}
	for _, r := range p.batch {
		old, err := s.cfg.Store.Get(r.Table, r.Owner, time.Time{}) // counted until it is collected, expired or not
		if err != nil {
			p.taken.Records++
		}
		p.taken.Bytes += max(0, len(r.Raw())-len(old))
	}
	t.addLocked(d, p.taken)
	return accepted
}

// release gives back what p has reserved: it is counted now, or never will be.
func (t *reservations) release(p *incoming) {
	if p.taken == (Counts{}) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(p.r.Owner.Domain(), Counts{Records: -p.taken.Records, Bytes: -p.taken.Bytes})
}

func (t *reservations) addLocked(d protocol.Domain, c Counts) {
	sum := t.by[d]
	sum.Records, sum.Bytes = sum.Records+c.Records, sum.Bytes+c.Bytes
	if sum == (Counts{}) {
		delete(t.by, d)
		return
	}
	if t.by == nil {
		t.by = make(map[protocol.Domain]Counts)
	}
	t.by[d] = sum
}
