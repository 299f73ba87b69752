package tunnel

import (
	"errors"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/tunnel/punch"
)

// punchAgain is how long a node is left alone to which many ports were tried in vain, and then twice as long each time up to
// mostPunchAgain: searches that follow each other closely would look like a scan after all.
const (
	punchAgain     = 30 * time.Second
	mostPunchAgain = 10 * time.Minute
	mostRests      = 1024 // nodes remembered
)

var errPunchRests = errors.New("no meeting by UDP now: a search for the NAT's port has just found nothing, and is not repeated at once")

// punchRests are the nodes that are left alone, until when.
type punchRests struct {
	mu sync.Mutex
	m  map[protocol.ID]punchRest
}

type punchRest struct {
	until time.Time
	last  time.Duration
}

// resting reports whether a node is left alone.
func (r *punchRests) resting(now time.Time, id protocol.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.m[id].until)
}

// note takes in how a meeting ended. Only one that spent its packets is followed by a rest.
func (r *punchRests) note(now time.Time, id protocol.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		delete(r.m, id)
	case errors.Is(err, punch.ErrNotFound):
		if r.m == nil || len(r.m) >= mostRests {
			r.m = make(map[protocol.ID]punchRest)
		}
		d := min(max(2*r.m[id].last, punchAgain), mostPunchAgain)
		r.m[id] = punchRest{until: now.Add(d), last: d}
	}
}

// forget lets everybody be tried again: the NAT is another one now.
func (r *punchRests) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m = nil
}
