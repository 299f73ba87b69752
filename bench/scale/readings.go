package main

import (
	"math/rand/v2"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// readings are means over sampled lookups of sampled users.
type readings struct {
	Lookups     int     `json:"lookups"`
	Asks        float64 `json:"asks"`      // a lookup; those to operators are among them
	Operator    float64 `json:"operator"`  // a lookup
	Refreshes   float64 `json:"refreshes"` // a lookup: questions for the map because all else failed
	Opened      float64 `json:"sessions_opened"`
	Malicious   float64 `json:"met_liar"` // share of lookups that asked one at least
	Stale       float64 `json:"stale"`    // share that ended with an older record than the newest
	WronglyNone float64 `json:"wrongly_none"`
	Unreachable float64 `json:"unreachable"` // share that existed and was not found, and not said to be missing either
	Unsure      float64 `json:"unsure"`      // share that did not exist, of which not every member said so
	Slow        float64 `json:"slow"`        // share that took longer than two waves' time-outs
}

// sample has users read. Each reads perUser keys, a day's lookups apart from each other, of its own domain: what another domain
// has, nobody may read.
func (l *lab) sample(p *population, users, perUser int) (out readings, err error) {
	for range users {
		c := p.customers[p.someone(l.rand)]
		u := l.newReader(c.domain)
		for range perUser {
			u.now = u.now.Add(time.Duration(l.rand.ExpFloat64() * 86400 / max(l.a.Lookups, 1) * float64(time.Second)))
			t := dht.Target{Key: protocol.NewID(c.domain, randomHash(l.rand)), Kind: l.a.LookupMix.draw(l.rand)}
			present := l.rand.Float64() >= l.a.LookupAbsent
			r, err := l.lookup(u, t, present, l.age())
			if err != nil {
				return out, err
			}
			out.Lookups++
			out.Asks += float64(r.Asks)
			out.Operator += float64(r.Operator)
			out.Refreshes += float64(r.Refreshes)
			out.Opened += float64(r.Opened)
			out.Malicious += when(r.Malicious > 0)
			out.Stale += when(r.Stale)
			out.WronglyNone += when(r.Missing && present)
			out.Unreachable += when(r.Unreachable && present)
			out.Unsure += when(r.Unreachable && !present)
			out.Slow += when(r.Waves > 2*codeTimeout)
		}
	}
	n := float64(out.Lookups)
	for _, x := range []*float64{
		&out.Asks, &out.Operator, &out.Refreshes, &out.Opened, &out.Malicious, &out.Stale, &out.WronglyNone, &out.Unreachable,
		&out.Unsure, &out.Slow,
	} {
		*x /= n
	}
	return out, nil
}

func when(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m mix) draw(r *rand.Rand) dht.TargetKind {
	switch x := r.Float64() * (m.NodeInfo + m.Place + m.Device); {
	case x < m.NodeInfo:
		return dht.FindNodeInfo
	case x < m.NodeInfo+m.Place:
		return dht.FindTunnelNodes
	}
	return dht.FindDevices
}

// age draws how old the newest announcement is. Of a node that has stopped without a word it grows until it expires.
func (l *lab) age() time.Duration {
	left := float64(codeExpiry - codeAnnounce)
	gone := l.a.NodeCrash * left / float64(time.Second) / l.a.NodeSession.seconds()
	if l.rand.Float64() < gone {
		return codeAnnounce + time.Duration(l.rand.Float64()*left)
	}
	// The next one is there an interval after the last one was stored: a round trip more.
	return time.Duration(l.rand.Float64() * float64(codeAnnounce+l.roundTrip()))
}

// spread gives a share of the members a manner.
func (l *lab) spread(share float64, how manner) {
	for _, m := range l.v.members {
		if l.rand.Float64() < share {
			l.manners[m.Peer.ID] = how
		}
	}
}
