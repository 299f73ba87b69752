package main

import (
	"math"
)

// flow is what one cause costs a second: messages both ways, and their bytes on the wire.
type flow struct {
	Cause    string  `json:"cause"`
	Messages float64 `json:"messages_s"`
	Bytes    float64 `json:"bytes_s"`
}

// flows of one kind of node.
type flows []flow

// add counts a second's exchanges, each a question and its answer.
func (l *flows) add(cause string, exchanges float64, e exchange) {
	*l = append(*l, flow{cause, 2 * exchanges, exchanges * e.total()})
}

func (l flows) total() (f flow) {
	for _, x := range l {
		f.Messages += x.Messages
		f.Bytes += x.Bytes
	}
	return f
}

func (l flows) of(cause string) flow {
	for _, x := range l {
		if x.Cause == cause {
			return x
		}
	}
	return flow{Cause: cause}
}

// Causes, as the plots name them.
const (
	byAnnounce   = "announcements"
	byLookups    = "lookups"
	byHomes      = "pings of homes"
	byRevocation = "revocations asked for"
	byMap        = "partition map"
	bySessions   = "sessions opened"
	byRenewal    = "certificates renewed"
	byForward    = "records passed on"
	byRepair     = "digests compared"
	byMoved      = "records moved"
	byProbes     = "probes of super-nodes"
	bySpies      = "questions by spies"
	byHandOver   = "ranges handed over"
	bySubmits    = "super-nodes that offer themselves"
	byEnrolment  = "enrolments and renewals"
	byChanges    = "devices and revocations"
	byFallback   = "lookups that nobody else answered"
	byMembership = "ranges short of members"
)

// network is one size of the mesh, ready to be counted.
type network struct {
	a        assumptions
	s        sizes
	d        design
	nodes    float64
	churn    churn
	readings readings
	spread   geometry
}

func (n network) supers() float64 { return float64(n.churn.Supers) }

// epochs is how many maps there are a second. A super-node that comes makes one when it offers itself, to fill, and one when it
// has filled, with others that have in that moment; those that are gone leave in one map a round.
func (n network) epochs() float64 {
	if n.d.Batch > 0 {
		return min(n.churn.Maps, 1/n.d.Batch)
	}
	joins := n.churn.Changes / 2
	return joins + min(joins, 1/codeHandOverTick.Seconds()) + min(joins, 1/codeWatch.Seconds())
}

// refresh is the mean time between two questions for the map and for revocations.
func refresh() float64 { return codeRefreshIdle.Seconds() * 9 / 8 }

// busy is the share of its time that a node is an end of a tunnel, its own or another's, if no two fall together.
func (a assumptions) busy() float64 { return min(1, 2*a.Tunnels*a.TunnelMinutes*60/86400) }

// user is one node's part, apart from what it serves as super-node.
func (n network) user() (l flows) {
	a, s := n.a, n.s
	keeps := min(1, float64(codeKeepers)/float64(a.NodesPerPlace))
	l.add(byLookups, a.Lookups/86400*n.readings.Asks, n.answers())
	l.add(byAnnounce, codeWriteQuorum*n.spread.KeyRanges/codeAnnounce.Seconds(), s.PutInfo)
	busy := a.busy()
	resting := keeps/codeKeepalive.Seconds() + (1-keeps)/codeSilentInterval.Seconds()
	l.add(byHomes, codeWantHomes*(busy/codeActivePing.Seconds()+(1-busy)*resting), s.Ping)
	l.add(byRevocation, codeReadQuorum*(busy/codeRefreshBusy.Seconds()+(1-busy)/refresh()), s.Revocations)
	l = append(l, n.userMap())
	// The second one asked for the map is a stranger each time; those of the own range are heard often enough to stay known.
	strangers := (codeReadQuorum - 1) / refresh() * max(0, 1-codeReplicas/n.supers())
	l.add(bySessions, strangers+a.Lookups/86400*n.readings.Opened, s.Open)
	l = append(l, flow{byRenewal, 2 / renewEvery(), n.bundle() / renewEvery()})
	return l
}

func (n network) answers() exchange {
	m, s := n.a.LookupMix, n.s
	all := m.NodeInfo + m.Place + m.Device
	mean := func(f func(exchange) int) int {
		return int((m.NodeInfo*float64(f(s.GetInfo)) + m.Place*float64(f(s.GetPlace)) + m.Device*float64(f(s.GetDevice))) / all)
	}
	return exchange{mean(func(e exchange) int { return e.Ask }), mean(func(e exchange) int { return e.Reply })}
}

// userMap is what a reader asks for and fetches, from K super-nodes each time, and from K when it is back after an absence.
func (n network) userMap() flow {
	s := n.s
	var f flows
	f.add(byMap, codeReadQuorum/refresh(), s.MapHead)
	page := func(every, entries float64) {
		f.add(byMap, codeReadQuorum/every*math.Ceil(entries/float64(s.PerPage)), s.MapPage)
	}
	starts := n.a.NodeSession.seconds()
	switch n.d.Map {
	case mapChanges:
		page(refresh(), n.churn.Entries*refresh())
		page(starts, min(n.supers(), n.churn.Entries*(86400-starts)))
	case mapOwn:
		mine := 1 - math.Exp(-n.churn.Entries/float64(max(1, n.churn.Ranges))*n.spread.UserRanges*refresh())
		proof := 32 * math.Log2(1+float64(n.churn.Ranges)) / float64(s.Member)
		own := n.spread.UserMembers + proof
		f.add(byMap, codeReadQuorum/refresh()*mine*math.Ceil(own/float64(s.PerPage)), s.MapPage)
		page(starts, own+few)
	}
	t := f.total()
	return flow{byMap, t.Messages, t.Bytes}
}

// behind is after how many seconds more entries have changed than a reader takes in at once.
func (n network) behind(limit int) float64 {
	if n.churn.Entries == 0 {
		return math.Inf(1)
	}
	return float64(limit) / n.churn.Entries
}

// renewEvery is after what time in seconds a node fetches a new certificate.
func renewEvery() float64 { return codeNodeLife.Seconds() * 2 / 3 }

// bundle is what enrolment and renewal send: with the whole map, or with a handful of super-nodes to begin with.
func (n network) bundle() float64 {
	members := n.supers()
	if n.d.Map == mapOwn {
		members = few + n.spread.UserMembers
	}
	return n.s.Bundle + members*n.s.BundleMember
}

// super is the mean super-node's part, as such.
func (n network) super() (l flows) {
	u, s := n.user(), n.s
	users := n.nodes / max(1, n.supers())
	for _, f := range u {
		if f.Cause != byRenewal {
			l = append(l, flow{f.Cause, f.Messages * users, f.Bytes * users})
		}
	}
	members := n.spread.Members
	l.add(byForward, users*n.spread.KeyRanges*codeWriteQuorum*max(0, members-1)/codeAnnounce.Seconds(), s.PutInfo)
	// The replicator repairs with each a little before the interval ends. Each super-node asks and is asked.
	every := codeRepair.Seconds() * 13 / 16
	const dynamic, everywhere = 3, 4 // tables
	peers := few + 0.0
	if n.d.RepairAll {
		peers = n.supers() - 1
	}
	digests := 2 * (max(0, members-1)*dynamic + min(peers, n.supers()-1)*everywhere) / every
	l.add(byRepair, digests, s.Digest)
	moved := n.churn.Records / max(1, n.supers())
	l.add(byMoved, 2*moved/float64(s.PerRepair), s.RepairPage) // one end sends what the other takes
	l = append(l, n.superMap())
	return merge(l)
}

// superMap is how the map gets to a super-node, and how it passes it on.
func (n network) superMap() flow {
	var f flows
	entries := n.churn.Entries
	if n.d.PushAll {
		f.add(byMap, entries, n.s.PutMember)
		f.add(byMap, n.epochs(), n.s.PutHead)
		f.add(byMap, n.epochs(), n.s.Notify)
		// Told of a map it asks K others for it at once, and as many ask it; the entries have come by then, mostly.
		f.add(byMap, 2*codeReadQuorum*n.epochs(), n.s.MapHead)
	} else {
		f.add(byMap, 2*n.epochs(), n.s.MapHead)
		f.add(byMap, 2*entries/float64(n.s.PerPage), n.s.MapPage)
	}
	t := f.total()
	return flow{byMap, t.Messages, t.Bytes}
}

// operator is the operator's part; lookups says whether the nodes look anything up.
func (n network) operator(lookups bool) (l flows) {
	a, s := n.a, n.s
	supers := n.supers()
	// A probe is a signed Ping and a TCP connection that is closed again: six segments of 52 bytes. Then it is asked how it is.
	rounds := supers / codeWatch.Seconds()
	l.add(byProbes, rounds, s.Probe)
	l.add(byProbes+" (TCP)", 3*rounds, exchange{52, 52})
	l.add(byProbes+" (how it is)", rounds, s.Notify)
	// A spy is a stranger to nearly everybody, so it opens a session first.
	spied := min(supers/codeSpyEvery.Seconds(), codeSpyRate)
	l.add(bySpies, spied, s.GetDevice)
	l.add(bySpies+" (sessions)", spied, s.Open)
	// Who takes over a range is asked until it is filled, about five times; then each table's digests are compared with R.
	filling := n.churn.Changes / 2
	l.add(byHandOver, 5*filling, s.Notify)
	l.add(byHandOver+" (digests)", 2*3*codeReplicas*filling, s.Digest)
	pushed := few + 0.0
	if n.d.PushAll {
		pushed = supers
	}
	var m flows
	direct := pushed
	if !n.d.PushAll {
		direct = n.spread.Members + few
	}
	m.add(byMap, n.churn.Entries*min(direct, supers), s.PutMember)
	m.add(byMap, n.epochs()*min(pushed, supers), s.PutHead)
	m.add(byMap, n.epochs()*min(pushed, supers), s.Notify)
	t := m.total()
	l = append(l, flow{byMap, t.Messages, t.Bytes})
	l.add(bySubmits, n.churn.Changes/2, s.Submit)
	served := n.nodes*a.Enrolments/86400 + n.nodes/renewEvery()
	l = append(l, flow{byEnrolment, 2 * served, served * n.bundle()})
	changes := n.nodes * a.DevicesPerNode * a.DeviceChanges / 86400 * n.spread.Members * 2
	l.add(byChanges, changes, s.GetDevice)
	revoked := n.nodes * a.Revocations / 86400 * pushed
	l.add(byChanges+" (everywhere)", revoked, s.PutHead)
	// Where the operator stands in for members, it takes a member's part of what is asked and stored there.
	short := n.churn.OperatorShare * n.nodes
	stores := codeWriteQuorum * n.spread.KeyRanges / codeAnnounce.Seconds() / codeReplicas
	l.add(byMembership, short*stores, s.PutInfo)
	if lookups {
		l.add(byMembership+" (lookups)", short*a.Lookups/86400*codeReadQuorum/codeReplicas, n.answers())
		// Who comes here is a stranger: a session first, then the question.
		asked := n.nodes * a.Lookups / 86400 * n.readings.Operator
		l.add(byFallback, asked, n.answers())
		l.add(byFallback+" (sessions)", asked, s.Open)
	}
	return merge(l)
}

// merge adds up flows whose causes differ in what stands in brackets only.
func merge(l flows) (out flows) {
	at := make(map[string]int)
	for _, f := range l {
		name := f.Cause
		for i := range name {
			if name[i] == '(' {
				name = name[:i-1]
				break
			}
		}
		if i, ok := at[name]; ok {
			out[i].Messages += f.Messages
			out[i].Bytes += f.Bytes
			continue
		}
		at[name] = len(out)
		out = append(out, flow{name, f.Messages, f.Bytes})
	}
	return out
}
