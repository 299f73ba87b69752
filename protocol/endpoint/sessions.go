package endpoint

import (
	"container/list"
	"sync/atomic"
	"time"

	"culvert/protocol"
)

// halfLife is how long a session that the peer opened waits for its first message.
const halfLife = 30 * time.Second

// session is a protocol.Session with what the endpoint must know of it.
type session struct {
	protocol.Session
	confirmed  atomic.Bool  // the peer has used it, or answered its opening
	generation uint32       // of the identity's certificate that the peer was shown
	used       atomic.Int64 // unix ms of the last message either way
	places     atomic.Pointer[places]
	stray      atomic.Pointer[stray] // nil as long as nothing came from elsewhere
	peer       *peer
	born       time.Time
	expires    time.Time // of the peer's certificate
	element    *list.Element
}

func (s *session) crypt() *protocol.Session { return &s.Session }

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
	return now.Sub(s.born) > e.cfg.RekeyAfter+e.cfg.RekeyAfter/6 || !e.clock(now).Before(s.expires)
}

// ageing reports whether a new session should be opened beside s.
func (e *Endpoint) ageing(now time.Time, s *session) bool {
	return now.Sub(s.born) >= e.cfg.RekeyAfter || s.Sent() >= protocol.RekeyPackets ||
		s.generation != s.peer.owner.generation.Load()
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
