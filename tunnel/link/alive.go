package link

import "time"

// Timing says how soon a dead link is noticed.
type Timing struct {
	Ask    time.Duration // after this much silence while something waits the other side is asked; 1 s
	Answer time.Duration // and given up after this much more; 3.5 s
	Idle   time.Duration // while nothing waits it is asked this often; 25 s
}

func (t Timing) withDefaults() Timing {
	if t.Ask == 0 {
		t.Ask = time.Second
	}
	if t.Answer == 0 {
		t.Answer = 3500 * time.Millisecond
	}
	if t.Idle == 0 {
		t.Idle = 25 * time.Second
	}
	return t
}

// pulse is what the watch over a link knows: when it last heard and said something, and when it asked.
type pulse struct {
	heard time.Time
	said  time.Time // first frame sent since heard; not after heard while there is none
	asked time.Time // zero while no PING is unanswered
}

type verdict byte

const (
	watchOn verdict = iota
	watchAsk
	watchDead
)

// check decides what to do now and when to look again. It holds no clock.
func (t Timing) check(now time.Time, p pulse) (verdict, time.Time) {
	if !p.asked.IsZero() && p.heard.Before(p.asked) {
		if due := p.asked.Add(t.Answer); now.Before(due) {
			return watchOn, due
		}
		return watchDead, now
	}
	due := p.heard.Add(t.Idle)
	if p.said.After(p.heard) {
		if d := p.said.Add(t.Ask); d.Before(due) {
			due = d
		}
	}
	if now.Before(due) {
		return watchOn, due
	}
	return watchAsk, now.Add(t.Answer)
}
