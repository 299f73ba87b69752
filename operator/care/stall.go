package care

import "time"

const (
	// StallAfter is for how long one that takes over a range may come no further while those who serve it answer.
	StallAfter = 10 * time.Minute
	// stallShare of what they hold is what coming further means: less would let a range be held up for good, a pair at a time.
	stallShare = 100
	// holdersEvery is between two questions to those who serve a range that somebody fills.
	holdersEvery = time.Minute
	// lookGap bounds what passed between two looks: while the operator was away nobody was seen standing still.
	lookGap = time.Minute
	// stallAgain is after how long one is named again whose place was not taken, for want of another.
	stallAgain = time.Minute

	firstPause = 30 * time.Minute
	lastPause  = 7 * 24 * time.Hour
)

// FillPause is for how long one that has stalled that many times is given nothing to fill.
func FillPause(stalls int) time.Duration {
	return min(firstPause<<min(max(stalls-1, 0), 16), lastPause)
}

// growth judges whether one that fills a range comes further. What it says itself counts up to what others hold.
type growth struct {
	looked  time.Time
	checked time.Time // when those who serve the range were asked last
	held    Held
	best    uint64        // what it had when it last came further
	grew    time.Time     // when that was; zero for never
	idle    time.Duration // since then, while they answered
	full    bool          // it says that it has as much as they do
	named   time.Time
}

// wants reports whether the holders are to be asked too.
func (g *growth) wants(now time.Time) bool { return now.Sub(g.checked) >= holdersEvery }

func (g *growth) took(now time.Time, s Seen) {
	passed := time.Duration(0)
	if !g.looked.IsZero() {
		passed = min(max(now.Sub(g.looked), 0), lookGap)
	}
	g.looked = now
	if s.Holders != nil {
		g.held, g.checked = *s.Holders, now
	}
	have := min(s.Have, g.held.High)
	g.full = s.Answered && have >= g.held.Low
	switch {
	case s.Proven, s.Answered && have >= g.best+max(1, g.held.Low/stallShare):
		g.best, g.grew, g.idle = max(g.best, have), now, 0
	case g.held.Answered:
		g.idle += passed
	}
}

func (g *growth) stalled(now time.Time) bool {
	limit := StallAfter
	if g.full { // one that serves the range may deny it for as long as where a node is lives
		limit *= 2
	}
	return g.idle >= limit && (g.named.IsZero() || now.Sub(g.named) >= stallAgain)
}

// grows reports whether it came further lately.
func (g *growth) grows(now time.Time) bool { return !g.grew.IsZero() && now.Sub(g.grew) < StallAfter }
