package protocol

import (
	"sync"
	"time"
)

const (
	// MaxSkew is how far a message's timestamp may be from the receiver's clock, either way.
	MaxSkew = 120 * time.Second
	// ReplayIDs is how many message IDs are remembered for one sender.
	ReplayIDs = 1024
)

// Fresh reports whether a timestamp is within MaxSkew of now.
func Fresh(now, stamp time.Time) bool {
	d := now.Sub(stamp)
	return d <= MaxSkew && d >= -MaxSkew
}

// Replay tells new signed messages from those that were received before. It remembers up to ReplayIDs message IDs for each
// sender, as long as their timestamps could be accepted again. Forgetting one early raises that sender's floor: older
// messages of it are refused from then on. A sender with a message inside the window is never forgotten; when the table is
// full of such, messages of further senders are refused.
type Replay struct {
	maxSenders int
	maxIDs     int

	mu      sync.Mutex
	senders map[ID]*seen
	ids     int
	floor   time.Time // newest timestamp that was ever forgotten with its sender
	swept   time.Time
}

type seen struct {
	floor  int64 // messages up to this timestamp (ms) are refused
	newest int64
	ids    []stamped
}

type stamped struct {
	id uint64
	at int64
}

// NewReplay makes a table for at most so many live senders and message IDs in all.
func NewReplay(senders, ids int) *Replay {
	return &Replay{maxSenders: senders, maxIDs: ids, senders: make(map[ID]*seen)}
}

// Seen reports whether Accept would refuse the message as a replay. It changes nothing: a cheap look before public-key work.
func (r *Replay) Seen(sender ID, stamp time.Time, id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.senders[sender]
	if s == nil {
		return !stamp.After(r.floor)
	}
	return s.has(stamp.UnixMilli(), id)
}

func (s *seen) has(at int64, id uint64) bool {
	if at <= s.floor {
		return true
	}
	for i := range s.ids {
		if s.ids[i].id == id {
			return true
		}
	}
	return false
}

// Accept takes in a message whose signature has been verified and whose timestamp is fresh.
func (r *Replay) Accept(now time.Time, sender ID, stamp time.Time, id uint64) error {
	at := stamp.UnixMilli()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.senders[sender]
	if s == nil {
		if !stamp.After(r.floor) {
			return ErrReplayed
		}
		if len(r.senders) >= r.maxSenders && !r.sweepLocked(now) {
			return ErrSenderTable
		}
		s = &seen{floor: -1}
	} else if s.has(at, id) {
		return ErrReplayed
	}
	if err := r.roomLocked(now, s); err != nil {
		return err
	}
	if at <= s.floor { // making room may have raised it
		return ErrReplayed
	}
	r.senders[sender] = s
	s.newest = max(s.newest, at)
	s.ids = append(s.ids, stamped{id, at})
	r.ids++
	return nil
}

// roomLocked makes room for one more ID of s: first what is too old to matter, then the oldest, whose time becomes the floor.
func (r *Replay) roomLocked(now time.Time, s *seen) error {
	full := r.ids >= r.maxIDs && !r.sweepLocked(now)
	if full && len(s.ids) == 0 {
		return ErrSenderTable
	}
	if len(s.ids) < min(cap(s.ids), ReplayIDs) && !full {
		return nil
	}
	if r.ids -= s.expire(now); len(s.ids) < ReplayIDs && !full {
		return nil
	}
	oldest := 0
	for i := range s.ids {
		if s.ids[i].at < s.ids[oldest].at {
			oldest = i
		}
	}
	s.floor = max(s.floor, s.ids[oldest].at)
	s.ids[oldest] = s.ids[len(s.ids)-1]
	s.ids = s.ids[:len(s.ids)-1]
	r.ids--
	return nil
}

// expire forgets IDs whose timestamps are past any acceptance; the floor keeps them out should the clock be set back.
func (s *seen) expire(now time.Time) int {
	limit := now.Add(-MaxSkew).UnixMilli()
	kept := s.ids[:0]
	for _, x := range s.ids {
		if x.at >= limit {
			kept = append(kept, x)
		} else {
			s.floor = max(s.floor, x.at)
		}
	}
	n := len(s.ids) - len(kept)
	s.ids = kept
	return n
}

// sweepLocked forgets what is no longer live, at most once a second, and reports whether there is room.
func (r *Replay) sweepLocked(now time.Time) bool {
	if d := now.Sub(r.swept); d >= time.Second || d < 0 {
		r.swept = now
		limit := now.Add(-MaxSkew).UnixMilli()
		for id, s := range r.senders {
			if s.newest >= limit {
				r.ids -= s.expire(now)
				continue
			}
			r.ids -= len(s.ids)
			s.ids, s.floor = nil, max(s.newest, s.floor)
			delete(r.senders, id)
			if t := time.UnixMilli(s.floor); t.After(r.floor) {
				r.floor = t
			}
		}
	}
	return len(r.senders) < r.maxSenders && r.ids < r.maxIDs
}

// Sweep forgets senders that are no longer live; callers do so now and then to give memory back.
func (r *Replay) Sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked(now)
}

// Senders is how many senders are remembered.
func (r *Replay) Senders() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.senders)
}
