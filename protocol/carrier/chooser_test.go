package carrier

import (
	"slices"
	"testing"
	"time"
)

func TestChooser(t *testing.T) {
	type step struct {
		after time.Duration
		event ChooserEvent
		want  []ChooserAction
	}
	for name, steps := range map[string][]step{
		"UDP works": {
			{0, EventDoubt, []ChooserAction{ActProbe}},
			{0, EventDoubt, nil}, // of a second membership
			{50 * time.Millisecond, EventUDPAnswered, nil},
			{time.Hour, EventTick, nil},
		},
		"blocked, and back": {
			{0, EventDoubt, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{time.Second, EventStreamUp, []ChooserAction{ActBlock}},
			{29 * time.Second, EventTick, nil},
			{time.Second, EventTick, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, nil},
			{30 * time.Second, EventTick, []ChooserAction{ActProbe}},
			{time.Second, EventUDPAnswered, []ChooserAction{ActUnblock}},
			{9 * time.Second, EventTick, nil},
			{time.Second, EventTick, []ChooserAction{ActCloseDetours}},
			{time.Hour, EventTick, nil},
		},
		"a late answer": {
			{0, EventDoubt, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{time.Second, EventUDPAnswered, nil},
			{time.Second, EventStreamUp, nil}, // no longer wanted
		},
		"a late answer after the switch": {
			{0, EventDoubt, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{0, EventStreamUp, []ChooserAction{ActBlock}},
			{time.Second, EventUDPAnswered, []ChooserAction{ActUnblock}},
			{time.Second, EventSilence, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{time.Second, EventStreamUp, []ChooserAction{ActBlock}},
			{10 * time.Second, EventTick, nil}, // what was to be closed is in use again
		},
		"nothing works": {
			{0, EventDoubt, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{time.Second, EventNoStream, nil},
			{time.Second, EventTick, nil},
			{time.Second, EventTick, []ChooserAction{ActProbe}},
			{time.Second, EventUDPSilent, []ChooserAction{ActDial}},
			{time.Second, EventNoStream, nil},
			{3 * time.Second, EventTick, nil},
			{time.Second, EventTick, []ChooserAction{ActProbe}},
			{time.Second, EventUDPAnswered, nil},
		},
		"homes fall silent": {
			{0, EventSilence, []ChooserAction{ActProbe}},
			{0, EventSilence, nil},
			{0, EventUDPAnswered, nil}, // it was they
		},
		"streams fall silent": {
			{0, EventSilence, []ChooserAction{ActProbe}},
			{0, EventUDPSilent, []ChooserAction{ActDial}},
			{0, EventStreamUp, []ChooserAction{ActBlock}},
			{0, EventSilence, []ChooserAction{ActCloseDetours, ActProbe, ActDial}},
			{0, EventUDPSilent, nil},
			{0, EventNoStream, []ChooserAction{ActUnblock}},
			{firstRest, EventTick, []ChooserAction{ActProbe}},
		},
		"another network": {
			{0, EventNetwork, []ChooserAction{ActProbe}},
			{0, EventUDPSilent, []ChooserAction{ActDial}},
			{0, EventNetwork, []ChooserAction{ActProbe}},
			{0, EventStreamUp, nil}, // by the old one
			{0, EventUDPSilent, []ChooserAction{ActDial}},
			{0, EventStreamUp, []ChooserAction{ActBlock}},
			{0, EventNetwork, []ChooserAction{ActCloseDetours, ActProbe}},
			{0, EventUDPAnswered, []ChooserAction{ActUnblock}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c Chooser
			now := time.Unix(1000, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				if got := c.Step(now, s.event); !slices.Equal(got, s.want) {
					t.Fatalf("step %d: %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

// TestChooserWaitsForSomething: whatever happens, a machine that is not content with UDP has a probe or a dial under way, or a
// time at which it looks again.
func TestChooserWaitsForSomething(t *testing.T) {
	events := []ChooserEvent{EventTick, EventDoubt, EventNetwork, EventSilence, EventUDPAnswered, EventUDPSilent, EventStreamUp, EventNoStream}
	var walk func(c Chooser, now time.Time, depth int)
	walk = func(c Chooser, now time.Time, depth int) {
		if c.state != byUDP && !c.probing && !c.dialing && c.Next().IsZero() {
			t.Fatalf("stuck: %+v", c)
		}
		if depth == 0 {
			return
		}
		for _, e := range events {
			// Answers come to questions only.
			if (e == EventUDPAnswered || e == EventUDPSilent) && !c.probing || (e == EventStreamUp || e == EventNoStream) && !c.dialing {
				continue
			}
			d := c
			d.Step(now.Add(time.Minute), e)
			walk(d, now.Add(time.Minute), depth-1)
		}
	}
	walk(Chooser{}, time.Unix(1000, 0), 7)
}
