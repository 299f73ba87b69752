package discovery

import (
	"slices"
	"time"
)

const (
	maxSettle  = 8 // times the quiet time: under a stream of events the gateways are read all the same
	firstRetry = time.Second
)

// Difference is what changed between two sets of gateways.
type Difference struct {
	Added, Removed []Gateway
	Changed        []Gateway // the same gateway on the same interface, as it is now: another MAC, prefix, address of ours, or rank
}

// Empty reports whether nothing changed.
func (d Difference) Empty() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// compare tells two sets apart. A change of order alone comes with a change of Default, or it changes no location.
func compare(before, now []Gateway) Difference {
	var d Difference
	for _, g := range now {
		switch old, ok := same(before, g); {
		case !ok:
			d.Added = append(d.Added, g)
		case old != g:
			d.Changed = append(d.Changed, g)
		}
	}
	for _, g := range before {
		if _, ok := same(now, g); !ok {
			d.Removed = append(d.Removed, g)
		}
	}
	return d
}

func same(list []Gateway, g Gateway) (Gateway, bool) {
	k := slices.IndexFunc(list, func(o Gateway) bool { return o.Index == g.Index && o.Interface == g.Interface && o.Addr == g.Addr })
	if k < 0 {
		return Gateway{}, false
	}
	return list[k], true
}

// carry keeps the MAC of a gateway that does not answer just now: a router's pause is not a change of place.
func carry(before, now []Gateway) []Gateway {
	for k := range now {
		g := &now[k]
		if old, ok := same(before, *g); ok && g.MAC.IsZero() && old.Prefix == g.Prefix && old.Layer3 == g.Layer3 {
			g.MAC = old.MAC
		}
	}
	return now
}

// resolved reports whether every MAC that can be known is.
func resolved(list []Gateway) bool {
	return !slices.ContainsFunc(list, func(g Gateway) bool { return g.MAC.IsZero() && !g.Layer3 })
}

// plan decides when to read the gateways.
type plan struct {
	settle, refresh time.Duration
	due             time.Time
	first           time.Time // of the events since the last reading
	retry           time.Duration
}

// event puts the reading off until the network is quiet, but not for ever.
func (p *plan) event(now time.Time) {
	if p.first.IsZero() {
		p.first = now
	}
	p.retry = 0
	p.due = now.Add(p.settle)
	if last := p.first.Add(maxSettle * p.settle); p.due.After(last) {
		p.due = last
	}
}

// quiet reports whether nothing has happened since the last reading, which was complete.
func (p *plan) quiet() bool { return p.first.IsZero() && p.retry == 0 }

// result notes a reading; after an incomplete one the next comes soon, then later and later.
func (p *plan) result(now time.Time, complete bool) {
	p.first = time.Time{}
	p.due = now.Add(p.refresh)
	if complete {
		p.retry = 0
		return
	}
	p.retry = min(max(2*p.retry, firstRetry), p.refresh)
	p.due = now.Add(p.retry)
}
