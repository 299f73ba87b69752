package dht

import (
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// partingFor is for how many intervals those who have left a range are asked for the last of it.
	partingFor = 3
	// partingRetry is between two questions to one who does not know yet that it has left.
	partingRetry = 500 * time.Millisecond
	// grace is for how many intervals a member keeps what others have taken over.
	grace = 5
	// leftKeep is for how long a super-node that has left the map keeps everything: it may have been a mistake.
	leftKeep = 24 * time.Hour
	// holdMost bounds the silence about a new range: whoever left it may be gone for good.
	holdMost = 5 * time.Second
)

// hold is the silence about a range that has just been taken over, until those who left it have handed over the last of it.
type hold struct {
	on    bool
	parts []partition.Range
	until time.Time
}

// partingFrom notes who no longer serves what self is to serve from now on.
func (r *Replicator) partingFrom(now time.Time, m *partition.Map, self partition.Member) {
	for id, p := range r.former {
		if p.shared = common(p.shared, one(self.Range)); len(p.shared) == 0 {
			delete(r.former, id)
		}
	}
	if r.current == nil {
		return
	}
	for _, old := range r.current.Members() {
		id := old.Peer.ID
		serves := partition.None()
		if mem, ok := m.Member(id); ok {
			serves = mem.Range
		}
		left := common(without(one(old.Range), one(serves)), one(self.Range))
		if id == r.self || len(left) == 0 {
			continue
		}
		p := r.former[id]
		if p == nil {
			p = &replica{}
			r.former[id] = p
		}
		p.member, p.shared = old, merged(append(left, p.shared...)...)
		p.due, p.until = now, now.Add(partingFor*r.interval)
	}
}

// settle works out what follows for this member itself from the change of map.
func (r *Replicator) settle(now time.Time, before partition.Member, was, first bool) {
	gained := without(one(r.own.Range), one(before.Range))
	if r.hold.on {
		gained = merged(append(common(r.hold.parts, one(r.own.Range)), gained...)...)
	}
	r.settles = now.Add(partingFor * r.interval)
	r.hold = hold{on: was && r.member && len(gained) > 0, parts: gained, until: now.Add(holdMost)}
	lost := without(merged(before.Range, before.Fill), merged(r.own.Range, r.own.Fill))
	switch {
	case !r.member && (was || first):
		r.drop = now.Add(leftKeep)
	case r.member && (!was || len(lost) > 0): // what an earlier run has left behind goes too
		r.drop = now.Add(grace * r.interval)
	}
}

// Holding reports whether the server must still keep silent about what the current map has given it.
func (r *Replicator) Holding(now time.Time) bool {
	if !r.hold.on {
		return false
	}
	waiting := false
	for _, p := range r.former {
		waiting = waiting || len(common(p.shared, r.hold.parts)) > 0
	}
	r.hold.on = waiting && now.Before(r.hold.until)
	return r.hold.on
}

// Settled reports whether the current map has been there long enough to have reached everybody who can be reached.
func (r *Replicator) Settled(now time.Time) bool {
	if r.settles.IsZero() || now.Before(r.settles) {
		return r.settles.IsZero()
	}
	r.settles = time.Time{}
	return true
}

// Drop reports whether the time has come to drop what is not this member's own, once.
func (r *Replicator) Drop(now time.Time) bool {
	if r.drop.IsZero() || now.Before(r.drop) {
		return false
	}
	r.drop = time.Time{}
	return true
}

// Epoch is of the map that it goes by.
func (r *Replicator) Epoch() uint64 {
	if r.current == nil {
		return 0
	}
	return r.current.Epoch()
}

// Progress is how far it is with what it takes over. That is filled when one whole repair has ended with each member that
// serves part of it, begun when both went by this map. Left out are those that have been silent for an interval, within which
// the map reaches whoever can be reached at all, and after a longer time those that answer without sense; but every
// position must have had somebody.
func (r *Replicator) Progress(now time.Time) Progress {
	out := Progress{Epoch: r.Epoch(), Filled: r.member}
	var served, proved []partition.Range
	held := make(map[partition.Range]uint64)
	var failed []*replica
	for _, p := range r.peers {
		if p.fails >= failing {
			failed = append(failed, p)
		}
		if len(p.fill) == 0 {
			continue
		}
		served = append(served, p.fill...)
		switch {
		case p.proved == out.Epoch:
			proved = append(proved, p.fill...)
		case p.fails == 0 && !p.behind.IsZero() && now.Sub(p.behind) >= refusing*r.interval:
		case p.fails < failing || now.Sub(p.since) < r.patience(p):
			out.Filled = false
		}
		held[p.fill[0]] = max(held[p.fill[0]], p.held)
	}
	out.Filled = out.Filled && len(without(served, proved)) == 0
	for _, n := range held { // parts of different members may overlap: it is no more than an estimate
		out.Want += n
	}
	slices.SortFunc(failed, func(a, b *replica) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return a.member.Peer.ID.Compare(b.member.Peer.ID)
	})
	for _, p := range failed[:min(len(failed), protocol.MaxSilent)] {
		out.Silent = append(out.Silent, p.member.Peer.ID)
	}
	return out
}

// patience is for how long a failing member is not left out.
func (r *Replicator) patience(p *replica) time.Duration {
	if p.silent {
		return r.interval
	}
	return refusing * r.interval
}
