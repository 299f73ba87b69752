package tunnel

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/tunnel/punch"
)

func TestPunchRests(t *testing.T) {
	var r punchRests
	now := time.UnixMilli(1_790_000_000_000)
	a, b := protocol.NewID(7, protocol.Hash{1}), protocol.NewID(7, protocol.Hash{2})
	r.note(now, a, errors.New("the other side fell silent"))
	if r.resting(now, a) {
		t.Error("a meeting that cost little is followed by a rest")
	}
	spent := fmt.Errorf("meet: %w", punch.ErrNotFound)
	for _, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
		r.note(now, a, spent)
		if !r.resting(now.Add(want-1), a) || r.resting(now.Add(want), a) {
			t.Errorf("the rest is not %s", want)
		}
		now = now.Add(want)
	}
	if r.note(now, a, spent); r.resting(now, b) {
		t.Error("another node is left alone too")
	}
	if r.forget(); r.resting(now, a) {
		t.Error("another NAT is not tried")
	}
	r.note(now, a, spent)
	if r.note(now, a, nil); r.resting(now, a) {
		t.Error("a node that was met is left alone")
	}
	for i := range 3 * mostRests {
		r.note(now, protocol.NewID(protocol.Domain(i), protocol.Hash{}), spent)
	}
	if len(r.m) > mostRests {
		t.Errorf("%d nodes are remembered", len(r.m))
	}
}
