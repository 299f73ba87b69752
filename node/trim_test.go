package node

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestCollectionAtRestAndAtWork(t *testing.T) {
	defer func(was int) { workGC = was; debug.SetGCPercent(was) }(workGC)
	for _, c := range []struct{ work, rest int }{{100, restGC}, {400, restGC}, {20, 20}, {-1, -1}} {
		debug.SetGCPercent(c.work)
		if workGC = gcPercent(); workGC != c.work {
			t.Errorf("read %d, wanted %d", workGC, c.work)
		}
		for _, rests := range []bool{true, true, false} {
			want := c.work
			if rests {
				want = c.rest
			}
			collectFor(rests)
			if got := gcPercent(); got != want {
				t.Errorf("GOGC %d, rests %v: %d, wanted %d", c.work, rests, got, want)
			}
		}
	}
	debug.SetGCPercent(math.MaxInt32 - 1)
	if got := gcPercent(); got != math.MaxInt32-1 {
		t.Errorf("read %d", got)
	}
}
