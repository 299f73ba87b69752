package endpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
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
	room     [1]attempt // for the usual one
	helped   int        // extra sendings: after a cookie, a GetNode, a clock
	err      error
	idUsed   bool // an attempt was made under the call's own ID
	done     bool
	shared   bool // somebody holds it without the lock: its memory is not used again

	line           *line // of timers; nil: in the heap
	before, behind *call // in the line
	place          int   // in the heap

	begun atomic.Bool // whoever began it has let it go, so that its memory may be used again once it is answered

	short [smallPayload]byte // a payload that is no longer
}

// smallPayload is up to where a call keeps its payload in itself: most ask by one ID.
const smallPayload = 40

// keep copies the payload, which is the caller's.
func (c *call) keep(payload []byte) {
	if len(payload) <= len(c.short) {
		c.payload = c.short[:copy(c.short[:], payload)]
		return
	}
	c.payload = bytes.Clone(payload)
}

// opening is what the initiator keeps until SessionOpened comes.
type opening struct {
	ephemeral  *key.Sealing
	index      uint64
	generation uint32
}

// attempt is one sending of a call. Each has a message ID of its own, since a receiver takes each ID once.
type attempt struct {
	id      uint64
	sent    time.Time
	session *session
	signed  *signedAttempt // nil for one in a session
}

// signedAttempt is what the answer to a signed message is checked with.
type signedAttempt struct {
	mac1       [16]byte
	transcript protocol.Hash // of an opening
}

const callShards = 16

// Message IDs are drawn at random but for their low bits, which say where the call is: its shard and its place there. That leaves
// 44 bits that nobody can foresee, and all IDs of a call have the same low bits.
const (
	placeBits = 16
	whereBits = 4 + placeBits // callShards is 1 << 4
	whereMask = 1<<whereBits - 1
)

// callTable finds calls by message ID, without hashing.
type callTable struct {
	max    int64
	n      atomic.Int64
	turn   atomic.Uint64 // whose is which shard's
	spare  sync.Pool     // of *call
	shards [callShards]callShard
}

type callShard struct {
	mu     sync.Mutex
	places []*call
	free   []uint32 // of places
	timers timers
	random []byte // drawn ahead, for IDs
	room   [128]byte
}

func (t *callTable) init(limit int) {
	t.max = int64(limit)
	t.spare.New = func() any { return new(call) }
}

// fresh is an empty call, which may be one that was answered.
func (t *callTable) fresh() *call { return t.spare.Get().(*call) }

func (t *callTable) shard(id uint64) *callShard { return &t.shards[id%callShards] }

// at is the call whose messages have such IDs, which may be another than the one that this ID was of.
func (sh *callShard) at(id uint64) *call {
	if k := id & whereMask / callShards; k < uint64(len(sh.places)) {
		return sh.places[k]
	}
	return nil
}

// draw is a random number.
func (sh *callShard) draw(rand io.Reader) (uint64, error) {
	if len(sh.random) < 8 {
		if _, err := io.ReadFull(rand, sh.room[:]); err != nil {
			return 0, err
		}
		sh.random = sh.room[:]
	}
	n := binary.BigEndian.Uint64(sh.random)
	sh.random = sh.random[8:]
	return n, nil
}

// add takes in a call and gives it its ID, and the attempt that was made under it, if one was.
func (t *callTable) add(c *call, rand io.Reader) error {
	if t.n.Add(1) > t.max {
		t.n.Add(-1)
		return ErrTooMany
	}
	err := t.addTo(t.turn.Add(1)%callShards, c, rand)
	if err != nil {
		t.n.Add(-1)
	}
	return err
}

// errNoID comes by chance once in 2^44 calls.
var errNoID = errors.New("endpoint: no ID was drawn")

func (t *callTable) addTo(shard uint64, c *call, rand io.Reader) error {
	sh := &t.shards[shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	random, err := sh.draw(rand)
	if err != nil {
		return err
	}
	if random &^= whereMask; random == 0 {
		return errNoID
	}
	k := uint64(len(sh.places))
	if last := len(sh.free) - 1; last >= 0 {
		k, sh.free = uint64(sh.free[last]), sh.free[:last]
		sh.places[k] = c
	} else if k < 1<<placeBits {
		sh.places = append(sh.places, c)
	} else {
		return ErrTooMany
	}
	c.id = CallID(random | k*callShards | shard)
	if c.idUsed {
		c.attempts[0].id = uint64(c.id)
	}
	sh.timers.join(c)
	return nil
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
		c.attempts = append(c.attempts[:0], c.attempts[1:]...)
	}
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
	c := sh.at(id)
	if c == nil {
		return nil, attempt{}, false
	}
	if a := c.attempt(id); a != nil {
		c.shared = true
		return c, *a, true
	}
	return nil, attempt{}, false
}

func (c *call) attempt(id uint64) *attempt {
	for i := range c.attempts {
		if c.attempts[i].id == id {
			return &c.attempts[i]
		}
	}
	return nil
}

// answer ends the call that sent this message ID, where plain says that its answer is no more than that, and names it. It is find
// and finish in one, for nearly all answers.
func (t *callTable) answer(id uint64, plain func(*call) bool) (done CallID, oneWay, ok bool) {
	sh := t.shard(id)
	sh.mu.Lock()
	c := sh.at(id)
	if c == nil || c.attempt(id) == nil || !plain(c) || !t.finishLocked(sh, c) {
		sh.mu.Unlock()
		return 0, false, false
	}
	done, oneWay = c.id, c.oneWay
	free := !c.shared && c.begun.Load()
	sh.mu.Unlock()
	if free {
		*c = call{}
		t.spare.Put(c)
	}
	return done, oneWay, true
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
	k := uint32(c.id & whereMask / callShards)
	sh.places[k] = nil
	sh.free = append(sh.free, k)
	sh.timers.leave(c)
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
	sh.timers.leave(opening)
	opening.interval, opening.next, opening.deadline = firstRetry, now.Add(firstRetry), now.Add(openTimeout)
	sh.timers.join(opening)
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
			sh.timers.leave(c)
			c.err = err
			sh.timers.join(c)
		}
		sh.mu.Unlock()
	}
}

func (t *callTable) all(which func(*call) bool) (l []*call) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		sh.timers.each(func(c *call) {
			if which(c) {
				c.shared = true
				l = append(l, c)
			}
		})
		sh.mu.Unlock()
	}
	return l
}

// tick takes the calls that have ended out and returns them, and those that are to be sent again.
func (t *callTable) tick(now time.Time, ended, again []*call) ([]*call, []*call) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for c := sh.timers.earliest(); c != nil; c = sh.timers.earliest() {
			if c.err == nil && now.Before(c.due()) {
				break
			}
			if c.err != nil || !now.Before(c.deadline) {
				t.finishLocked(sh, c)
				ended = append(ended, c)
				continue
			}
			sh.timers.leave(c)
			c.interval = min(2*c.interval, lastRetry)
			c.next = now.Add(c.interval)
			sh.timers.join(c)
			c.shared = true
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
		if c := sh.timers.earliest(); c != nil {
			if d := c.due(); !ok || d.Before(at) {
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
