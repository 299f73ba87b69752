package dht

import (
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
)

// recent is for how many intervals after its last repair a super-node that comes back may answer at once.
const recent = 10

// Replicator decides when to repair with whom, as a step machine, and when a super-node may answer: a new one once it has
// tried every other member and repaired with one at least, or where there is no other. One that has served before may also be
// all that is left, so that it answers once it has repaired with anybody or tried everybody, and at once after a short absence.
// Who is out of the map begins anew when it comes back.
type Replicator struct {
	self     protocol.ID
	interval time.Duration
	rand     *rand.Rand
	served   bool // before, since it is a member
	ready    bool
	peers    map[protocol.ID]*replica
}

type replica struct {
	member  partition.Member
	shared  partition.Range
	due     time.Time
	running bool
	done    bool // once since it became a member
	fails   int
}

// NewReplicator makes one; last is when an earlier run repaired last, zero for never.
func NewReplicator(self protocol.ID, interval time.Duration, last, now time.Time, r *rand.Rand) *Replicator {
	if interval <= 0 {
		interval = RepairInterval
	}
	return &Replicator{
		self: self, interval: interval, rand: r, peers: make(map[protocol.ID]*replica),
		served: !last.IsZero(), ready: !last.IsZero() && now.Sub(last).Abs() < recent*interval,
	}
}

// Ready reports whether ordinary nodes may be answered.
func (r *Replicator) Ready() bool { return r.ready }

// SetMap takes in a new map; who joins is repaired with at once.
func (r *Replicator) SetMap(now time.Time, m *partition.Map) {
	self, member := m.Member(r.self)
	keep := make(map[protocol.ID]bool)
	for _, mem := range m.Members() {
		id := mem.Peer.ID
		if id == r.self || !member {
			continue
		}
		// Tables that are everywhere are shared even where ranges are not.
		shared, _ := self.Range.Intersect(mem.Range)
		keep[id] = true
		if p := r.peers[id]; p != nil {
			p.done = p.done && p.shared == shared
			p.member, p.shared = mem, shared
			continue
		}
		r.peers[id] = &replica{member: mem, shared: shared, due: now}
	}
	for id := range r.peers {
		if !keep[id] {
			delete(r.peers, id)
		}
	}
	if !member {
		r.served, r.ready = false, false
		return
	}
	r.judge()
}

// Due starts the repairs whose time has come: each is to be run and its end told to Finished.
func (r *Replicator) Due(now time.Time) []ReplicaTask {
	var out []ReplicaTask
	for _, p := range r.peers {
		if !p.running && !now.Before(p.due) {
			p.running = true
			out = append(out, ReplicaTask{Member: p.member, Shared: p.shared})
		}
	}
	slices.SortFunc(out, func(a, b ReplicaTask) int { return a.Member.Peer.ID.Compare(b.Member.Peer.ID) })
	return out
}

// ReplicaTask is one repair to run.
type ReplicaTask struct {
	Member partition.Member
	Shared partition.Range
}

// Finished takes the end of a repair.
func (r *Replicator) Finished(now time.Time, peer protocol.ID, err error) {
	p := r.peers[peer]
	if p == nil {
		return
	}
	p.running = false
	if err != nil {
		p.fails++
		p.due = now.Add(min(repairRetry<<min(p.fails-1, 8), r.interval*9/10))
	} else {
		p.fails, p.done = 0, true
		// A little under the interval and never in step, so that two replicas agree within it.
		p.due = now.Add(r.interval*3/4 + time.Duration(r.rand.Int64N(int64(r.interval/8)+1)))
	}
	r.judge()
}

// Deadline is when to look for due repairs next; zero where there is nobody.
func (r *Replicator) Deadline() time.Time {
	var d time.Time
	for _, p := range r.peers {
		if !p.running && (d.IsZero() || p.due.Before(d)) {
			d = p.due
		}
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
