package care

import (
	"time"

	"culvert/protocol"
)

const (
	// deniedFor is for how long a super-node may say of everything that it does not serve it: it may have lost its disk, and be
	// fetching its range anew.
	deniedFor = 8 * time.Minute

	// Of the last busyOf minutes busyLimit have to be busy ones. It is above what overload by the half, or one lasting a while, comes to.
	busyOf      = 15
	busyLimit   = 12
	busyAtLeast = 3 // questions in a minute
)

// refusals are the answers of one super-node that serve nobody.
type refusals struct {
	since, last time.Time // of an unbroken run of denials; zero: the last answer was none
	minutes     [busyOf + 1]minute
}

// minute counts answers.
type minute struct {
	number      int64
	asked, busy int
}

// took takes in how a question ended, and reports whether a run of denials has begun with it.
func (r *refusals) took(now time.Time, v Verdict) (began bool) {
	if v == Unanswered || v == Nothing {
		return false
	}
	m := r.minute(now.Unix() / 60)
	m.asked++
	switch v {
	case Busy:
		m.busy++
	case Denied:
		if began = r.since.IsZero(); began {
			r.since = now
		}
		r.last = now
	default:
		r.since, r.last = time.Time{}, time.Time{}
	}
	return began
}

func (r *refusals) minute(number int64) *minute {
	m := &r.minutes[number%int64(len(r.minutes))]
	if m.number != number {
		*m = minute{number: number}
	}
	return m
}

// denies reports whether it has said for long that it does not serve what it does.
func (r *refusals) denies() bool { return r.last.Sub(r.since) >= deniedFor }

func (m minute) overloaded() bool { return m.asked >= busyAtLeast && m.busy*4 >= m.asked*3 }
func (m minute) calm() bool       { return m.asked > 0 && m.busy*4 <= m.asked }

// alwaysBusy reports whether w refuses most questions for load, minute after minute, while most others of its range refuse few.
func (a *Audit) alwaysBusy(now time.Time, w *audited) bool {
	n := 0
	for ago := int64(1); ago <= busyOf; ago++ { // the present minute is not over
		number := now.Unix()/60 - ago
		if m := w.refusals.at(number); m.overloaded() && a.othersCalm(w.peers, number) {
			n++
		}
	}
	return n >= busyLimit
}

func (a *Audit) othersCalm(peers []protocol.ID, number int64) bool {
	calm := 0
	for _, id := range peers {
		if o := a.members[id]; o != nil && o.refusals.at(number).calm() {
			calm++
		}
	}
	return calm*2 > len(peers)
}

func (r *refusals) at(number int64) minute {
	if m := r.minutes[number%int64(len(r.minutes))]; m.number == number {
		return m
	}
	return minute{}
}
