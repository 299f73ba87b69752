package tunnels

import (
	"context"
	"flag"
	"testing"
	"time"
)

var (
	crowdStanding = flag.Int("crowd", 600, "tunnels of TestCrowd that stand")
	crowdMore     = flag.Int("more", 300, "tunnels that are opened while they do")
)

// So many tunnels at once, through one super-node and to one tunnel-node, each answer, also while others come and go, and leave
// nothing behind.
func TestCrowd(t *testing.T) {
	ctx := t.Context()
	c, err := StartCrowd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	nodes := func(what string) []Node {
		t.Helper()
		l, err := c.Nodes(ctx)
		step("look at the nodes", err)
		for _, n := range l {
			t.Logf("%-24s %-12s %7.1f MB resident, %6.1f MB heap, %6.1f MB stacks, %6d goroutines, %6d descriptors",
				what, n.Name, float64(n.RSS)/1e6, float64(n.Heap)/1e6, float64(n.Stacks)/1e6, n.Goroutines, n.Descriptors)
		}
		return l
	}
	grow := func(n int) {
		t.Helper()
		g, err := c.Grow(ctx, n)
		step("grow", err)
		t.Logf("%d opened in %v: %.1f ms a tunnel, first answer after %.0f µs", n, g.Took.Round(time.Millisecond), g.Open, g.First)
	}
	before := nodes("before")
	grow(*crowdStanding)
	step("ask all", c.Ask(ctx))
	nodes("standing")
	grow(*crowdMore)
	step("ask all, with those that came later", c.Ask(ctx))
	full := nodes("with more")
	step("close the later ones", c.Shrink(ctx, *crowdMore))
	step("ask those that stand", c.Ask(ctx))
	step("close all", c.Shrink(ctx, *crowdStanding))
	settle(t, c, before)
	for i, n := range nodes("after") {
		// Go keeps what describes a goroutine for the next one, and maps keep their size; a leak of every tenth tunnel would show.
		grown, left := int64(full[i].Heap)-int64(before[i].Heap), int64(n.Heap)-int64(before[i].Heap)
		if kept := 512 * int64(full[i].Goroutines); left > kept+grown/10+1<<20 {
			t.Errorf("%s: %d of %d bytes of heap are still held", n.Name, left, grown)
		}
	}
}

// settle waits until the nodes have as many descriptors and goroutines as before: the other end of what is closed hears of it
// a moment later.
func settle(t *testing.T, c *Crowd, before []Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := c.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var left []Node
		for i, n := range now {
			if n.Descriptors > before[i].Descriptors || n.Goroutines > before[i].Goroutines {
				left = append(left, n)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, n := range left {
				t.Errorf("%s still has %d descriptors and %d goroutines", n.Name, n.Descriptors, n.Goroutines)
			}
			return
		}
	}
}
