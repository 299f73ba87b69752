package dht_test

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// crowd is many readers of one range, each with a memory of its own, and members of limited capacity, under a virtual clock.
type crowd struct {
	t       *testing.T
	rand    *rand.Rand
	now     time.Time
	events  timeline
	members []partition.Member
	hosts   map[protocol.ID]*host
	readers []*dht.Scores
	cfg     dht.LookupConfig
	info    []byte

	begun, failed, refreshed int
}

// host answers as many questions a second as it can; beyond that it says Busy.
type host struct {
	capacity float64
	tokens   float64
	filled   time.Time
	dead     bool
	served   int // since the last look
	refused  int
}

const busyMillis = 200

func newCrowd(t *testing.T, seed uint64, hosts, readers int, capacity float64) *crowd {
	w := storetest.NewWorld(t)
	n := w.Node(7, "n")
	op, _ := w.Trust.Operator(w.OpID)
	c := &crowd{
		t: t, rand: rand.New(rand.NewPCG(seed, 9)), now: start, members: supers(w, hosts), hosts: make(map[protocol.ID]*host), info: w.Info(n, 5, start.Add(time.Hour)),
		cfg: dht.LookupConfig{
			Target: dht.Target{Kind: dht.FindNodeInfo, Key: n.ID}, Own: 7, Timeout: dht.DefaultTimeout,
			Check:     func(time.Time, *protocol.Record) error { return nil },
			Operators: []partition.Member{{Peer: protocol.Peer{ID: op.ID}}},
		},
	}
	for _, m := range c.members {
		c.hosts[m.Peer.ID] = &host{capacity: capacity, filled: start}
	}
	c.hosts[op.ID] = &host{capacity: capacity, filled: start}
	for range readers {
		c.readers = append(c.readers, dht.NewScores())
	}
	return c
}

// load has lookups begin at random for a time, so many a second, and lets those that run come to their ends.
func (c *crowd) load(perSecond float64, d time.Duration) {
	for at := c.now; ; {
		if at = at.Add(time.Duration(c.rand.ExpFloat64() / perSecond * float64(time.Second))); at.Sub(c.now) > d {
			break
		}
		c.at(at, c.lookup)
	}
	for end := c.now.Add(d); c.events.Len() > 0 && !c.events[0].at.After(end); {
		e := heap.Pop(&c.events).(happening)
		c.now = e.at
		e.f()
	}
}

// drain lets all lookups end.
func (c *crowd) drain() {
	for c.events.Len() > 0 {
		e := heap.Pop(&c.events).(happening)
		c.now = e.at
		e.f()
	}
}

func (c *crowd) at(t time.Time, f func()) {
	heap.Push(&c.events, happening{t, c.begun + c.events.Len(), f})
}

// lookup is one reader's.
func (c *crowd) lookup() {
	c.begun++
	who := c.rand.IntN(len(c.readers))
	cfg := c.cfg
	cfg.Members, cfg.Rand, cfg.Scores = c.members, c.rand, c.readers[who]
	l := dht.NewLookup(cfg)
	var step func(e dht.Event)
	due := time.Time{}
	step = func(e dht.Event) {
		if l.Done() {
			return
		}
		for _, a := range l.Step(c.now, e) {
			if a.Kind == dht.ActRefresh {
				c.refreshed++
				c.at(c.now.Add(20*time.Millisecond), func() { step(dht.Event{Kind: dht.EventMap, Members: c.members}) })
				continue
			}
			c.ask(who, a, step)
		}
		if l.Done() {
			if _, err := l.Result(); err != nil {
				c.failed++
			}
			return
		}
		if d := l.Deadline(); !d.Equal(due) {
			due = d
			c.at(d, func() { step(dht.Event{Kind: dht.EventTick}) })
		}
	}
	step(dht.Event{Kind: dht.EventTick})
}

func (c *crowd) ask(who int, a dht.Action, step func(dht.Event)) {
	h := c.hosts[a.Peer.ID]
	// A reader and a host are as far apart as they are, a few milliseconds to eighty.
	rtt := time.Duration(5+rand.New(rand.NewPCG(uint64(who), uint64(a.Peer.ID[5]))).IntN(75)) * time.Millisecond
	c.at(c.now.Add(rtt/2), func() {
		if h.dead {
			return
		}
		e := dht.Event{Kind: dht.EventAnswer, Tag: a.Tag}
		reply := protocol.Payload(protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{c.info}}})
		if !h.take(c.now) {
			reply = protocol.Busy{RetryAfter: busyMillis}
		}
		b, err := protocol.AppendPayload(nil, reply)
		if err != nil {
			c.t.Fatal(err)
		}
		e.Command, e.Payload = reply.Command(), b
		c.at(c.now.Add(rtt/2), func() { step(e) })
	})
}

func (h *host) take(now time.Time) bool {
	h.tokens = min(h.tokens+now.Sub(h.filled).Seconds()*h.capacity, h.capacity/5)
	h.filled = now
	if h.tokens < 1 {
		h.refused++
		return false
	}
	h.tokens--
	h.served++
	return true
}

// asked is how many questions each host got since the last look, and forgets them.
func (c *crowd) asked() map[protocol.ID]int {
	l := make(map[protocol.ID]int)
	for id, h := range c.hosts {
		l[id] = h.served + h.refused
		h.served, h.refused = 0, 0
	}
	return l
}

type happening struct {
	at    time.Time
	order int
	f     func()
}

type timeline []happening

func (t timeline) Len() int { return len(t) }
func (t timeline) Less(i, j int) bool {
	if c := t[i].at.Compare(t[j].at); c != 0 {
		return c < 0
	}
	return t[i].order < t[j].order
}
func (t timeline) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)   { *t = append(*t, x.(happening)) }
func (t *timeline) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// When one of ten dies at 80% load, each of the others gets at most 1.25 times its share and what fell to it of the dead one's,
// in every ten seconds from the death on, and no lookup fails.
func TestOneOfTenDies(t *testing.T) {
	const (
		capacity = 100.0
		lookups  = 0.8 * 10 * capacity / 2 // each asks two
	)
	for seed := range uint64(1) {
		c := newCrowd(t, seed, 10, 1000, capacity)
		c.load(lookups, 15*time.Second) // they learn who is near
		c.asked()
		c.load(lookups, 20*time.Second)
		share := c.asked()
		dead := c.members[0].Peer.ID
		for _, m := range c.members {
			if share[m.Peer.ID] > share[dead] {
				dead = m.Peer.ID
			}
		}
		c.hosts[dead].dead = true
		worst := 0.0
		for range 2 {
			c.load(lookups, 10*time.Second)
			for id, n := range c.asked() {
				if id == dead || id == c.cfg.Operators[0].Peer.ID {
					continue
				}
				allowed := (float64(share[id]) + float64(share[dead])/9) / 2
				worst = max(worst, float64(n)/allowed)
			}
		}
		c.drain()
		if worst > 1.25 || c.failed > 0 {
			t.Errorf("seed %d: the worst gets %.2f of its share and the dead one's; %d of %d lookups fail", seed, worst, c.failed, c.begun)
		}
		t.Logf("seed %d: worst %.3f, %d lookups, %d refreshes", seed, worst, c.begun, c.refreshed)
	}
}

// A range that is asked for twice what it can do goes on doing what it can, and what it does is of use: with an answer for every
// second question that is needed, most lookups have one. Those who are refused do not ask ever more.
func TestOverloadDoesNotCollapse(t *testing.T) {
	const capacity = 50.0
	c := newCrowd(t, 1, 10, 1000, capacity)
	c.load(0.5*10*capacity/2, 10*time.Second)
	c.asked()
	before := c.begun
	c.load(2*10*capacity/2, 10*time.Second)
	served, refused := 0, 0
	for id, h := range c.hosts {
		if id != c.cfg.Operators[0].Peer.ID {
			served, refused = served+h.served, refused+h.refused
		}
	}
	begun := c.begun - before
	c.drain()
	if float64(served) < 0.95*10*capacity*10 || c.failed > begun/5 {
		t.Errorf("%d answers in 10 s, where %d are possible; %d of %d lookups fail", served, int(10*capacity*10), c.failed, begun)
	}
	if perLookup := float64(served+refused) / float64(begun); perLookup > 10 {
		t.Errorf("%.1f questions a lookup", perLookup)
	}
	t.Logf("%d lookups, %d answers, %d refusals, %d failed", begun, served, refused, c.failed)
}
