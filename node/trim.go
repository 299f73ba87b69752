package node

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// trimFirst is when memory is first given back: what starting took is not needed again. The intervals double up to trimLast: a
	// collection of a small heap takes some milliseconds, and what comes together in between is a megabyte in five minutes.
	trimFirst = 10 * time.Second
	trimLast  = time.Minute
	// trimBelow is how many bytes a second a node allocates at most that has nothing to do.
	trimBelow = 512 << 10
	// restGC is at what growth, in percent, the heap is collected while there is nothing to do: what waits for that is most of it then.
	restGC = 50
)

// workGC is the growth at which the heap is collected else, as GOGC has it; negative where it never is.
var workGC = gcPercent()

// trimLoop gives memory back while this node has nothing to do: unused heap, workers and code. A node that works keeps what it has.
func (n *Node) trimLoop(ctx context.Context) {
	defer collectFor(false)
	wait, before := trimFirst, allocated()
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := allocated()
		rests := n.tunnels.Quiet() && n.relay.Stats()["connections now"] == 0 && float64(now-before) < trimBelow*wait.Seconds()
		collectFor(rests)
		if rests {
			n.shrink()
			debug.FreeOSMemory()
			unmapCode()
		}
		before, wait = allocated(), min(2*wait, trimLast)
		t.Reset(wait)
	}
}

// allocated is how many bytes this process has taken from the heap since its start.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// collectFor has the heap collected as it suits a node that rests, or one that works.
func collectFor(rests bool) {
	want := workGC
	if rests {
		want = min(workGC, restGC)
	}
	if gcPercent() != want { // to set it stops the world
		debug.SetGCPercent(want)
	}
}

func gcPercent() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	if p := s[0].Value.Uint64(); p < math.MaxInt32 {
		return int(p)
	}
	return -1
}
