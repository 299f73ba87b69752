package endpoint

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
)

// halfLife is how long a session that the peer opened waits for its first message.
const halfLife = 30 * time.Second

// session is a protocol.Session with what the endpoint must know of it.
type session struct {
	*protocol.Session
	peer       *peer
	born       time.Time
	expires    time.Time // of the peer's certificate
	generation uint32    // of the identity's certificate that the peer was shown
	element    *list.Element

	confirmed atomic.Bool  // the peer has used it, or answered its opening
	used      atomic.Int64 // unix ms of the last message either way
}

func (s *session) touch(now time.Time) {
	if ms := now.UnixMilli(); s.used.Load() != ms {
		s.used.Store(ms)
	}
}

func (s *session) idle(now time.Time) time.Duration {
	return time.Duration(now.UnixMilli()-s.used.Load()) * time.Millisecond
}

// ended reports whether nothing may be received or sent on s any more.
func (e *Endpoint) ended(now time.Time, s *session) bool {
	return s.peer.owner.removed.Load() || now.Sub(s.born) > e.cfg.RekeyAfter+e.cfg.RekeyAfter/6 || !e.clock(now).Before(s.expires)
}

// ageing reports whether a new session should be opened beside s.
func (e *Endpoint) ageing(now time.Time, s *session) bool {
	return now.Sub(s.born) >= e.cfg.RekeyAfter || s.Sent() >= protocol.RekeyPackets ||
		s.generation != s.peer.owner.generation.Load()
}

const sessionShards = 64

type sessionTable struct {
	max    int
	shards [sessionShards]struct {
		mu sync.RWMutex
		m  map[uint64]*session
	}

	mu     sync.Mutex // taken before a shard's
	order  list.List
	remote map[uint64]*session // by the index under which the peer receives: for hints
}

func (t *sessionTable) init(limit int) {
	t.max = limit
	t.remote = make(map[uint64]*session)
	for i := range t.shards {
		t.shards[i].m = make(map[uint64]*session)
	}
}

func (t *sessionTable) get(index uint64) *session {
	sh := &t.shards[index%sessionShards]
	sh.mu.RLock()
	s := sh.m[index]
	sh.mu.RUnlock()
	return s
}

func (t *sessionTable) byRemote(index uint64) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.remote[index]
}

// add takes a session in and returns the one, if any, that had to go for it. It refuses an index that is taken.
func (t *sessionTable) add(s *session) (gone *session, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh := &t.shards[s.Index%sessionShards]
	sh.mu.Lock()
	_, taken := sh.m[s.Index]
	if !taken {
		sh.m[s.Index] = s
	}
	sh.mu.Unlock()
	if taken {
		return nil, false
	}
	if _, dup := t.remote[s.Remote]; !dup { // a peer that copies another's index loses its own hints only
		t.remote[s.Remote] = s
	}
	if t.order.Len() >= t.max {
		gone = t.evictLocked()
	}
	s.element = t.order.PushBack(lastLook{s, s.used.Load()})
	return gone, true
}

type lastLook struct {
	s    *session
	used int64
}

// evictLocked passes over sessions used since the last look, within bounds, unless nobody ever used them.
func (t *sessionTable) evictLocked() *session {
	for tries := 0; ; tries++ {
		front := t.order.Front()
		l := front.Value.(lastLook)
		if used := l.s.used.Load(); tries < 64 && used != l.used && l.s.confirmed.Load() {
			front.Value = lastLook{l.s, used}
			t.order.MoveToBack(front)
			continue
		}
		t.removeLocked(l.s)
		return l.s
	}
}

func (t *sessionTable) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(s)
}

func (t *sessionTable) removeLocked(s *session) {
	sh := &t.shards[s.Index%sessionShards]
	sh.mu.Lock()
	here := sh.m[s.Index] == s
	if here {
		delete(sh.m, s.Index)
	}
	sh.mu.Unlock()
	if !here {
		return
	}
	if t.remote[s.Remote] == s {
		delete(t.remote, s.Remote)
	}
	t.order.Remove(s.element)
}

func (t *sessionTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.order.Len()
}

// over are the sessions for which done reports true.
func (t *sessionTable) over(done func(*session) bool) (l []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for el := t.order.Front(); el != nil; el = el.Next() {
		if s := el.Value.(lastLook).s; done(s) {
			l = append(l, s)
		}
	}
	return l
}

func (e *Endpoint) endSessions(which func(*session) bool) {
	for _, s := range e.sessions.over(which) {
		e.endSession(s)
	}
}

// endSession removes s everywhere.
func (e *Endpoint) endSession(s *session) {
	e.sessions.remove(s)
	s.peer.forget(s)
}
