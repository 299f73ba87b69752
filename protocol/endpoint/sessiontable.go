package endpoint

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// sessionTable finds sessions by the index under which they receive. Every datagram looks there, on whatever goroutine, so a
// look takes no lock: it walks a flat table of pointers, of which changes make a new one when it is full.
type sessionTable struct {
	max  int
	flat atomic.Pointer[flatTable]

	mu     sync.Mutex // of changes
	used   int        // places of flat that are not nil
	order  list.List
	remote map[uint64]*session // by the index under which the peer receives: for hints
	gone   *session            // stands where one was removed, so that a walk goes on
}

// flatTable is open addressing over a power of two of places, at most half of them taken. Indices are drawn at random, by this side.
type flatTable []atomic.Pointer[session]

const leastPlaces = 64

func (t *sessionTable) init(limit int) {
	t.max = limit
	t.remote = make(map[uint64]*session)
	t.gone = new(session)
	f := make(flatTable, leastPlaces)
	t.flat.Store(&f)
}

func (t *sessionTable) get(index uint64) *session {
	if index == 0 { // nobody's
		return nil
	}
	f := *t.flat.Load()
	mask := uint64(len(f) - 1)
	for i := index & mask; ; i = (i + 1) & mask {
		if s := f[i].Load(); s == nil || s.Index == index {
			return s
		}
	}
}

func (f flatTable) put(s *session) (fresh bool) {
	mask := uint64(len(f) - 1)
	for i := s.Index & mask; ; i = (i + 1) & mask {
		if f[i].CompareAndSwap(nil, s) {
			return true
		}
	}
}

// insertLocked takes in a session whose index is not there.
func (t *sessionTable) insertLocked(s *session) {
	f := *t.flat.Load()
	if t.used >= len(f)/2 {
		n := leastPlaces
		for n < 4*(t.order.Len()+1) {
			n *= 2
		}
		f = make(flatTable, n)
		t.used = 0
		for el := t.order.Front(); el != nil; el = el.Next() {
			f.put(el.Value.(lastLook).s)
			t.used++
		}
		f.put(s)
		t.used++
		t.flat.Store(&f)
		return
	}
	f.put(s)
	t.used++
}

func (t *sessionTable) deleteLocked(s *session) (here bool) {
	f := *t.flat.Load()
	mask := uint64(len(f) - 1)
	for i := s.Index & mask; ; i = (i + 1) & mask {
		switch f[i].Load() {
		case s:
			f[i].Store(t.gone)
			return true
		case nil:
			return false
		}
	}
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
	if t.get(s.Index) != nil {
		return nil, false
	}
	t.insertLocked(s)
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
	if !t.deleteLocked(s) {
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
