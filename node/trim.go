package node

import (
	"context"
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
)

// trimLoop gives memory back while this node has nothing to do: unused heap, workers and code. A node that works keeps what it has.
func (n *Node) trimLoop(ctx context.Context) {
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
		if n.tunnels.Quiet() && n.relay.Stats()["connections now"] == 0 && float64(now-before) < trimBelow*wait.Seconds() {
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
