package dht

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// RepairInterval is within what time two replicas that differ agree.
	RepairInterval = 60 * time.Second
	// repairRetry is the first wait after a failed repair.
	repairRetry = 2 * time.Second
	// recent is for how many intervals after its last repair a super-node that comes back may answer at once.
	recent = 10
	// fillEvery of an interval lies between two repairs of a range that is being taken over: what is passed on may get lost.
	fillEvery = 8
	// strangers is how many members it repairs with that share no range with it: what is everywhere spreads by them too.
	strangers = 16
	// failing is after how many repairs in a row a member counts as failing.
	failing = 3
	// refusing is for how many intervals a member may answer without sense until it is left out like a silent one.
	refusing = 5
)

// Replicator decides when to repair with whom, as a step machine; when a super-node may answer; how far it is with what it
// takes over; and when it drops what is no longer its own.
//
// A new super-node may answer once it has tried every other member and repaired with one at least, or where there is no other.
// One that has served before may also be all that is left, so that it answers once it has repaired with anybody or tried
// everybody, and at once after a short absence. Who is out of the map begins anew when it comes back.
//
// It repairs with each member over what that one serves and it keeps, with a few others, drawn by chance, over what is everywhere,
// and, after a new map, once with those who have left what
// it serves now.
type Replicator struct {
	self     protocol.ID
	interval time.Duration
	rand     *rand.Rand
	served   bool // before, since it is a member
	ready    bool
	peers    map[protocol.ID]*replica
	former   map[protocol.ID]*replica // who has left what is served here

	current *partition.Map
	own     partition.Member // zero, with no range, while it is none
	member  bool
	hold    hold
	settles time.Time // when the current map counts as known to all; zero from then on
	drop    time.Time // when to drop what is not its own; zero for never
}

// replica is what is known of one peer to repair with.
type replica struct {
	member  partition.Member
	shared  []partition.Range
	fill    []partition.Range // the last of shared: what is taken over
	due     time.Time
	until   time.Time // of one that has left: when to let it be
	running bool
	begun   uint64 // epoch at which the running repair began
	done    bool   // once since it became a member
	proved  uint64 // epoch since which all of fill has come or is passed on
	held    uint64 // (key, record) pairs of fill that it has
	fails   int
	since   time.Time // of the first of these
	silent  bool      // the last of them was silence
	behind  time.Time // since when it has answered by an older map than the current; zero where it does not
}

// NewReplicator makes one; last is when an earlier run repaired last, zero for never.
func NewReplicator(self protocol.ID, interval time.Duration, last, now time.Time, r *rand.Rand) *Replicator {
	if interval <= 0 {
		interval = RepairInterval
	}
	return &Replicator{
		self: self, interval: interval, rand: r, peers: make(map[protocol.ID]*replica), former: make(map[protocol.ID]*replica),
		served: !last.IsZero(), ready: !last.IsZero() && now.Sub(last).Abs() < recent*interval, own: nobody(),
	}
}

// nobody keeps no range; the zero Member would keep position 0.
func nobody() partition.Member {
	return partition.Member{Range: partition.None(), Fill: partition.None()}
}

// Ready reports whether ordinary nodes may be answered.
func (r *Replicator) Ready() bool { return r.ready }

// SetMap takes in a new map; who joins is repaired with at once.
func (r *Replicator) SetMap(now time.Time, m *partition.Map) {
	before := r.own
	was := r.member
	self, member := m.Member(r.self)
	if !member {
		self = nobody()
	}
	r.partingFrom(now, m, self)
	first := r.current == nil
	r.current, r.own, r.member = m, self, member
	keep := make(map[protocol.ID]bool)
	var others []partition.Member // known ones first
	known := 0
	for _, mem := range m.Members() {
		id := mem.Peer.ID
		if id == r.self || !member {
			continue
		}
		if !overlap(self, mem) {
			if others = append(others, mem); r.peers[id] != nil {
				last := len(others) - 1
				others[known], others[last] = others[last], others[known]
				known++
			}
			continue
		}
		keep[id] = true
		r.setPeer(now, mem)
	}
	for i := range min(len(others), strangers) {
		if i >= known {
			j := i + r.rand.IntN(len(others)-i)
			others[i], others[j] = others[j], others[i]
		}
		keep[others[i].Peer.ID] = true
		r.setPeer(now, others[i])
	}
	for id := range r.peers {
		if !keep[id] {
			delete(r.peers, id)
		}
	}
	r.settle(now, before, was, first)
	if !member {
		r.served, r.ready = false, false
		return
	}
	r.judge()
}

// overlap reports whether other serves what self keeps.
func overlap(self, other partition.Member) bool {
	_, a := self.Range.Intersect(other.Range)
	_, b := self.Fill.Intersect(other.Range)
	return a || b
}

// setPeer works out what is shared with a member. Tables that are everywhere are shared even where ranges are not.
func (r *Replicator) setPeer(now time.Time, mem partition.Member) {
	var fill []partition.Range
	if !mem.Isolated { // whose holding back would hold up everything
		fill = without(common(one(r.own.Fill), one(mem.Range)), one(r.own.Range))
	}
	shared := append(common(one(r.own.Range), one(mem.Range)), fill...)
	p := r.peers[mem.Peer.ID]
	if p == nil {
		r.peers[mem.Peer.ID] = &replica{member: mem, shared: shared, fill: fill, due: now}
		return
	}
	for _, g := range shared {
		if !within(merged(p.shared...), g.From, g.To) {
			p.done, p.due = false, now
		}
	}
	if len(fill) > 0 {
		p.due = now // the proof is for each epoch
	}
	p.member, p.shared, p.fill = mem, shared, fill
}

// Due starts the repairs whose time has come: each is to be run and its end told to Finished.
func (r *Replicator) Due(now time.Time) []ReplicaTask {
	var out []ReplicaTask
	start := func(p *replica, former bool) {
		if !p.running && !now.Before(p.due) {
			p.running, p.begun = true, r.current.Epoch()
			out = append(out, ReplicaTask{Member: p.member, Shared: p.shared, Former: former})
		}
	}
	for _, p := range r.peers {
		start(p, false)
	}
	for id, p := range r.former {
		if !p.running && !now.Before(p.until) {
			delete(r.former, id)
			continue
		}
		start(p, true)
	}
	slices.SortFunc(out, func(a, b ReplicaTask) int {
		if c := a.Member.Peer.ID.Compare(b.Member.Peer.ID); c != 0 || a.Former == b.Former {
			return c
		} else if b.Former {
			return -1
		}
		return 1
	})
	return out
}

// ReplicaTask is one repair to run: NewRepair(Member.Peer, store, Shared...).
type ReplicaTask struct {
	Member partition.Member
	Shared []partition.Range
	Former bool // it serves this no longer, and Shared is what it has left to this member
}

// Finished takes the end of a repair that Due has started.
func (r *Replicator) Finished(now time.Time, t ReplicaTask, e RepairEnd) {
	p := r.peers[t.Member.Peer.ID]
	if t.Former {
		p = r.former[t.Member.Peer.ID]
	}
	if p == nil || !p.running {
		return
	}
	p.running = false
	switch {
	case e.Err != nil && e.Local:
		p.due = now.Add(r.interval / fillEvery) // it says nothing about the peer
	case e.Err != nil:
		if p.fails++; p.fails == 1 {
			p.since = now
		}
		p.silent = errors.Is(e.Err, ErrUnreachable)
		most := r.interval * 9 / 10
		if len(p.fill) > 0 || t.Former {
			most = r.interval / fillEvery
		}
		p.due = now.Add(min(repairRetry<<min(p.fails-1, 8), most))
	case t.Former:
		if p.fails = 0; e.Epoch >= p.begun && sameRanges(t.Shared, p.shared) {
			delete(r.former, t.Member.Peer.ID) // it takes no more stores, and all that it took is here
		} else {
			p.due = now.Add(partingRetry)
		}
	default:
		p.fails = 0
		if sameRanges(t.Shared, p.shared) {
			p.done = true
			p.took(r.current.Epoch(), e)
		}
		switch {
		case e.Epoch >= p.begun:
			p.behind = time.Time{}
		case p.behind.IsZero():
			p.behind = now
		}
		if p.due = now.Add(r.pause(p)); p.begun != r.current.Epoch() && len(p.fill) > 0 {
			p.due = now // the proof is for each epoch
		}
	}
	if !t.Former {
		r.judge()
	}
}

// took notes what a repair proves.
func (p *replica) took(epoch uint64, e RepairEnd) {
	p.held = 0
	for i := len(p.shared) - len(p.fill); i < min(len(p.shared), len(e.Held)); i++ {
		p.held += e.Held[i]
	}
	// Whoever answers by this map passes on to us what it takes in after its answer, so that all before came and all after will.
	if p.begun == epoch && e.Epoch >= epoch {
		p.proved = epoch
	}
}

func sameRanges(a, b []partition.Range) bool { return slices.Equal(a, b) }

// pause is a little under the interval and never in step, so that two replicas agree within it.
func (r *Replicator) pause(p *replica) time.Duration {
	d := r.interval
	if len(p.fill) > 0 {
		d /= fillEvery
	}
	return d*3/4 + time.Duration(r.rand.Int64N(int64(d/8)+1))
}

// Deadline is when to look again though nothing happens; zero where there is nothing to come.
func (r *Replicator) Deadline() time.Time {
	d := r.drop
	sooner := func(t time.Time) {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	sooner(r.settles)
	for _, p := range r.peers {
		if !p.running {
			sooner(p.due)
		}
	}
	for _, p := range r.former {
		if !p.running {
			sooner(p.due)
			sooner(p.until)
		}
	}
	if r.hold.on {
		sooner(r.hold.until)
	}
	return d
}

func (r *Replicator) judge() {
	done, untried := 0, 0
	for _, p := range r.peers {
		switch {
		case p.done:
			done++
		case p.fails == 0:
			untried++
		}
	}
	switch {
	case len(r.peers) == 0, untried == 0 && done > 0:
		r.ready = true
	case r.served:
		r.ready = r.ready || done > 0 || untried == 0
	}
}
