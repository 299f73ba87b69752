package endpoint

import (
	"container/heap"
	"time"
)

// timers hold the calls of a shard by when they need a look. Nearly all calls are answered before, so that joining and leaving
// must cost little: calls that wait equally long stand in a line, which is in order by itself; the others are in a heap.
type timers struct {
	lines [waits]line
	heap  callHeap
}

// waits is how many lengths of waiting have a line of their own: firstRetry doubled up to lastRetry, and oneWayKept.
const (
	waits      = 7
	waitOneWay = waits - 1
)

// line is a doubly linked list of calls, the one due first in front.
type line struct{ first, last *call }

// due is when the call needs a look.
func (c *call) due() time.Time {
	if c.err != nil {
		return time.Time{}
	}
	if c.next.Before(c.deadline) {
		return c.next
	}
	return c.deadline
}

// wait is the line for a call, -1 where it has none.
func (c *call) wait() int {
	switch {
	case c.err != nil:
		return -1
	case c.oneWay:
		return waitOneWay
	case !c.next.Before(c.deadline):
		return -1
	}
	for k, d := 0, firstRetry; k < waitOneWay; k, d = k+1, 2*d {
		if c.interval == d {
			return k
		}
	}
	return -1
}

func (t *timers) join(c *call) {
	if k := c.wait(); k >= 0 {
		l := &t.lines[k]
		if l.last == nil {
			l.first, l.last, c.line = c, c, l
			return
		}
		if !c.due().Before(l.last.due()) { // a clock that was set back: the heap keeps order
			c.before, l.last.behind = l.last, c
			l.last, c.line = c, l
			return
		}
	}
	heap.Push(&t.heap, c)
}

func (t *timers) leave(c *call) {
	l := c.line
	if l == nil {
		heap.Remove(&t.heap, c.place)
		return
	}
	if c.before != nil {
		c.before.behind = c.behind
	} else {
		l.first = c.behind
	}
	if c.behind != nil {
		c.behind.before = c.before
	} else {
		l.last = c.before
	}
	c.before, c.behind, c.line = nil, nil, nil
}

// earliest is the call that is due first, nil where there is none.
func (t *timers) earliest() (c *call) {
	if len(t.heap) > 0 {
		c = t.heap[0]
	}
	for i := range t.lines {
		if f := t.lines[i].first; f != nil && (c == nil || f.due().Before(c.due())) {
			c = f
		}
	}
	return c
}

// each calls f for every call; f changes nothing.
func (t *timers) each(f func(*call)) {
	for i := range t.lines {
		for c := t.lines[i].first; c != nil; c = c.behind {
			f(c)
		}
	}
	for _, c := range t.heap {
		f(c)
	}
}

type callHeap []*call

func (h callHeap) Len() int           { return len(h) }
func (h callHeap) Less(i, j int) bool { return h[i].due().Before(h[j].due()) }
func (h callHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *callHeap) Push(x any) {
	c := x.(*call)
	c.place = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *callHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}
