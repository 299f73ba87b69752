package dht

import (
	"sync"

	"culvert/protocol"
)

// Prefetch is for requests that came together, before their handlers run one after the other: it asks the store's memory for what
// each of them will read, all at once. A lookup among many records is mostly a wait for memory, and waits that are begun together
// are over together. It changes no answer, and may be left out.
func (s *Server) Prefetch(vs []*protocol.Verified) {
	if len(vs) < 2 {
		return
	}
	p := prefetches.Get().(*[prefetchMost]Key)
	n := 0
	for _, v := range vs {
		if q, most, ok := reads(v); ok && most > 0 && (q.By == ByOwner || q.By == ByKey) {
			p[n] = Key{q.Table, q.By, q.Key}
			n++
		}
		if n == len(p) {
			s.cfg.Store.Prefetch(p[:n])
			n = 0
		}
	}
	s.cfg.Store.Prefetch(p[:n])
	prefetches.Put(p)
}

// prefetchMost is how many are asked for at once: of more, the first would be out of the cache before they are used.
const prefetchMost = 64

var prefetches = sync.Pool{New: func() any { return new([prefetchMost]Key) }}
