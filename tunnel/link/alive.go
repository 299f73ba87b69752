package link

import "time"

// Timing says how soon a dead link is noticed.
type Timing struct {
	Ask     time.Duration // after this much silence while something waits the other side is asked; 0.75 s
	Suspect time.Duration // without an answer for this long new flows do better elsewhere; Ask
	Answer  time.Duration // and for this long the link is given up; 3.5 s
	Idle    time.Duration // while nothing waits the other side is asked this often; 25 s
	// Busy is how often while flows were opened or moved something within Recent; 1 s, 10 s. Both ends ask: a NAT that has
	// forgotten the link opens again from the inside alone.
	Busy, Recent time.Duration
}

func (t Timing) withDefaults() Timing {
	if t.Ask == 0 {
		t.Ask = 750 * time.Millisecond
	}
	if t.Suspect == 0 {
		t.Suspect = t.Ask
	}
	if t.Answer == 0 {
		t.Answer = 3500 * time.Millisecond
	}
	if t.Idle == 0 {
		t.Idle = 25 * time.Second
	}
	if t.Busy == 0 {
		t.Busy = time.Second
	}
	if t.Recent == 0 {
		t.Recent = 10 * time.Second
	}
	return t
}

// pulse is what the watch over a link knows: when it last heard and said something, and when it asked.
type pulse struct {
	heard time.Time
	said  time.Time // first frame sent since heard; not after heard while there is none
	asked time.Time // of the last PING, zero for none
	used  time.Time // when a flow was opened or moved something
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
	if now.Sub(p.used) < t.Recent {
		if d := p.heard.Add(t.Busy); d.Before(due) {
			due = d
		}
	}
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
