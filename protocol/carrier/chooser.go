package carrier

import (
	"cmp"
	"time"
)

const (
	// udpAgain is how often UDP is tried while streams stand in for it.
	udpAgain = 30 * time.Second
	// Streams stay open this long after UDP works again, for answers that are on their way.
	streamGrace = 10 * time.Second
	// While neither works both are tried in growing intervals.
	firstRest = 2 * time.Second
	lastRest  = time.Minute
)

// ChooserEvent is what happened, as far as the choice of a carrier is concerned.
type ChooserEvent uint8

const (
	EventTick        ChooserEvent = iota
	EventDoubt                    // a start: it is not known whether UDP passes
	EventNetwork                  // this machine is in another network
	EventSilence                  // nobody who should answers any more
	EventUDPAnswered              // a probe by UDP was answered
	EventUDPSilent                // it was not
	EventStreamUp                 // a stream that was asked for has come up
	EventNoStream                 // or none did
)

// ChooserAction is what the loop around a Chooser must do.
type ChooserAction uint8

const (
	ActProbe        ChooserAction = iota // ask peers by UDP; ends in EventUDPAnswered or EventUDPSilent
	ActDial                              // open streams to peers; ends in EventStreamUp or EventNoStream
	ActBlock                             // streams stand in for UDP from now on
	ActUnblock                           // UDP carries again
	ActCloseDetours                      // end the streams
)

type chooserState uint8

const (
	byUDP    chooserState = iota // it works, or nothing is known
	proving                      // it may not: peers are asked, or will be at next
	trying                       // it does not: streams are dialled
	byStream                     // streams stand in
)

// Chooser decides when UDP counts as blocked, and when no more. The zero value takes UDP for granted. It has no clock and
// no goroutine: events go in, actions come out, Next says when it wants an EventTick.
type Chooser struct {
	Again time.Duration // between tries of UDP, 30 s

	state   chooserState
	probing bool
	dialing bool
	next    time.Time     // of the next probe; zero: none is due
	closeAt time.Time     // of streams that are no longer needed
	rest    time.Duration // while neither works
}

// Step takes in an event.
func (c *Chooser) Step(now time.Time, e ChooserEvent) (acts []ChooserAction) {
	switch e {
	case EventNetwork:
		c.rest, c.next = 0, time.Time{}
		if c.state != byStream {
			c.state = proving
		} else {
			acts = append(acts, ActCloseDetours) // they lead through the old network
		}
		return c.probe(acts)
	case EventDoubt:
		if c.state == byUDP {
			c.state = proving
			return c.probe(acts)
		}
	case EventSilence:
		switch c.state {
		case byUDP:
			c.state = proving
			return c.probe(acts)
		case byStream:
			// The streams themselves may have died unnoticed.
			return c.dial(c.probe(append(acts, ActCloseDetours)))
		}
	case EventUDPAnswered:
		c.probing, c.rest, c.next = false, 0, time.Time{}
		if c.state == byStream {
			acts = append(acts, ActUnblock)
			c.closeAt = now.Add(streamGrace)
		}
		c.state = byUDP
	case EventUDPSilent:
		c.probing = false
		switch c.state {
		case proving:
			c.state = trying
			return c.dial(acts)
		case byStream:
			c.next = now.Add(cmp.Or(c.Again, udpAgain))
		}
	case EventStreamUp:
		c.dialing = false
		if c.state == trying {
			c.state, c.next, c.closeAt, c.rest = byStream, now.Add(cmp.Or(c.Again, udpAgain)), time.Time{}, 0
			acts = append(acts, ActBlock)
		}
	case EventNoStream:
		c.dialing = false
		if c.state == byStream {
			acts = append(acts, ActUnblock)
		}
		if c.state == byStream || c.state == trying {
			c.rest = min(max(2*c.rest, firstRest), lastRest)
			c.state, c.next = proving, now.Add(c.rest)
		}
	case EventTick:
		if !c.closeAt.IsZero() && !now.Before(c.closeAt) {
			c.closeAt = time.Time{}
			acts = append(acts, ActCloseDetours)
		}
		if !c.next.IsZero() && !now.Before(c.next) {
			c.next = time.Time{}
			return c.probe(acts)
		}
	}
	return acts
}

func (c *Chooser) probe(acts []ChooserAction) []ChooserAction {
	if c.probing {
		return acts
	}
	c.probing = true
	return append(acts, ActProbe)
}

func (c *Chooser) dial(acts []ChooserAction) []ChooserAction {
	if c.dialing {
		return acts
	}
	c.dialing = true
	return append(acts, ActDial)
}

// Next is when a tick is due, zero for never.
func (c *Chooser) Next() time.Time {
	if c.next.IsZero() || !c.closeAt.IsZero() && c.closeAt.Before(c.next) {
		return c.closeAt
	}
	return c.next
}
