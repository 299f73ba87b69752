package endpoint

import (
	"container/heap"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// CallID names a call under way.
type CallID uint64

// call is one question until its answer or its end. Openings of sessions are calls too.
type call struct {
	id      CallID
	local   *identity
	peer    *peer
	to      protocol.Peer
	cmd     protocol.Command
	payload []byte
	began   time.Time
	opening *opening // for OpenSession
	oneWay  bool     // Send's: no session is opened for it, nobody hears how it ends

	// The rest is guarded by the shard's lock.
	deadline time.Time
	next     time.Time
	interval time.Duration
	attempts []attempt
	room     [2]attempt // for the usual few
	helped   int        // extra sendings: after a cookie, a GetNode, a clock
	err      error
	idUsed   bool // an attempt was made under the call's own ID
	done     bool
	place    int // in the heap
}

// opening is what the initiator keeps until SessionOpened comes.
type opening struct {
	ephemeral  *key.Sealing
	index      uint64
	generation uint32
}

// attempt is one sending of a call. Each has a message ID of its own, since a receiver takes each ID once.
type attempt struct {
	id         uint64
	sent       time.Time
	mac1       [16]byte
	transcript protocol.Hash
	session    *session
}

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

const callShards = 16

// callTable finds calls by message ID. All IDs of one call have the same low bits, so a call lives in one shard.
type callTable struct {
	max    int64
	n      atomic.Int64
	shards [callShards]callShard
}

type callShard struct {
	mu   sync.Mutex
	m    map[uint64]*call
	heap callHeap
}

func (t *callTable) init(limit int) {
	t.max = int64(limit)
	for i := range t.shards {
		t.shards[i].m = make(map[uint64]*call)
	}
}

func (t *callTable) shard(id uint64) *callShard { return &t.shards[id%callShards] }

// add takes in a call under its own ID.
func (t *callTable) add(c *call) bool {
	if t.n.Add(1) > t.max {
		t.n.Add(-1)
		return false
	}
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.m[uint64(c.id)] != nil {
		t.n.Add(-1)
		return false
	}
	sh.m[uint64(c.id)] = c
	heap.Push(&sh.heap, c)
	return true
}

// first reports, once, that the call's own ID may serve as message ID.
func (t *callTable) first(c *call) bool {
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	first := !c.idUsed
	c.idUsed = true
	return first
}

// sent notes an attempt; false means that the call has ended meanwhile.
func (t *callTable) sent(c *call, a attempt) bool {
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.done {
		return false
	}
	if len(c.attempts) >= 8 {
		if old := c.attempts[0].id; old != uint64(c.id) {
			delete(sh.m, old)
		}
		c.attempts = append(c.attempts[:0], c.attempts[1:]...)
	}
	sh.m[a.id] = c
	if c.attempts == nil {
		c.attempts = c.room[:0]
	}
	c.attempts = append(c.attempts, a)
	return true
}

// find is the call that sent this message ID, and that attempt.
func (t *callTable) find(id uint64) (*call, attempt, bool) {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.m[id]
	if c == nil {
		return nil, attempt{}, false
	}
	for i := range c.attempts {
		if c.attempts[i].id == id {
			return c, c.attempts[i], true
		}
	}
	return nil, attempt{}, false
}

// finish ends a call; only the first to come does.
func (t *callTable) finish(c *call) bool {
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return t.finishLocked(sh, c)
}

func (t *callTable) finishLocked(sh *callShard, c *call) bool {
	if c.done {
		return false
	}
	c.done = true
	delete(sh.m, uint64(c.id))
	for i := range c.attempts {
		delete(sh.m, c.attempts[i].id)
	}
	heap.Remove(&sh.heap, c.place)
	t.n.Add(-1)
	return true
}

// help allows a call a few sendings out of turn.
func (t *callTable) help(c *call) bool {
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.done || c.helped >= 4 {
		return false
	}
	c.helped++
	return true
}

// hasten lets an opening start its intervals anew for the sake of a call that has just begun, and reports whether it is to
// be sent at once.
func (t *callTable) hasten(now time.Time, c, opening *call) bool {
	sh := t.shard(uint64(opening.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := len(opening.attempts)
	if opening.done || !c.began.Equal(now) || n == 0 || now.Sub(opening.attempts[n-1].sent) < firstRetry {
		return false
	}
	opening.interval, opening.next, opening.deadline = firstRetry, now.Add(firstRetry), now.Add(openTimeout)
	heap.Fix(&sh.heap, opening.place)
	return true
}

// silent is how many attempts the call has made in this session.
func (t *callTable) silent(c *call, s *session) (n int) {
	sh := t.shard(uint64(c.id))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i := range c.attempts {
		if c.attempts[i].session == s {
			n++
		}
	}
	return n
}

// fail makes the calls of which which reports true fail at the next Tick.
func (t *callTable) fail(which func(*call) bool, err error) {
	for _, c := range t.all(which) {
		sh := t.shard(uint64(c.id))
		sh.mu.Lock()
		if !c.done && c.err == nil {
			c.err = err
			heap.Fix(&sh.heap, c.place)
		}
		sh.mu.Unlock()
	}
}

func (t *callTable) all(which func(*call) bool) (l []*call) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for _, c := range sh.heap {
			if which(c) {
				l = append(l, c)
			}
		}
		sh.mu.Unlock()
	}
	return l
}

// tick takes the calls that have ended out and returns them, and those that are to be sent again.
func (t *callTable) tick(now time.Time, ended, again []*call) ([]*call, []*call) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for len(sh.heap) > 0 {
			c := sh.heap[0]
			if c.err == nil && now.Before(c.due()) {
				break
			}
			if c.err != nil || !now.Before(c.deadline) {
				t.finishLocked(sh, c)
				ended = append(ended, c)
				continue
			}
			c.interval = min(2*c.interval, lastRetry)
			c.next = now.Add(c.interval)
			heap.Fix(&sh.heap, c.place)
			again = append(again, c)
		}
		sh.mu.Unlock()
	}
	return ended, again
}

// next is when tick has something to do.
func (t *callTable) next() (at time.Time, ok bool) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		if len(sh.heap) > 0 {
			if d := sh.heap[0].due(); !ok || d.Before(at) {
				at, ok = d, true
			}
		}
		sh.mu.Unlock()
	}
	return at, ok
}

// address is where the call's messages go: where the caller said, else from where the peer was last heard.
func (c *call) address() netip.AddrPort {
	if c.to.Addr.IsValid() {
		return c.to.Addr
	}
	return c.peer.address()
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
