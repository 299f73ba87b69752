package main

import (
	"math/rand/v2"
	"slices"

	"culvert/partition"
	"culvert/protocol"
)

// churn is what coming and going does to the map.
type churn struct {
	Supers        int     `json:"super_nodes"` // on the map, mean
	Ranges        int     `json:"ranges"`      // at the end
	Members       []int   `json:"ranges_by_members"`
	Changes       float64 `json:"joins_and_leaves_s"`
	Entries       float64 `json:"map_entries_changed_s"`
	Records       float64 `json:"records_moved_s"` // (key, record) pairs
	RecordsJoin   float64 `json:"records_moved_a_join"`
	DeadOnMap     float64 `json:"dead_share"`     // of the map's entries: gone and not noticed yet
	OperatorShare float64 `json:"operator_share"` // of the key space, by nodes, that the operator serves too for want of members

	plan *plan
}

// simulateChurn has volunteers come and go for so many minutes, after they have been placed. The operator changes the map once
// a minute, and what has gone without a word is on it until it missed codeMissLimit probes.
func simulateChurn(p *population, minutes int, r *rand.Rand) churn {
	a := p.a
	l := newPlan(p)
	var on []protocol.ID
	for i := range p.volunteers {
		if p.volunteers[i].on = p.volunteers[i].stays || r.Float64() < a.superOn(); p.volunteers[i].on {
			on = append(on, p.volunteers[i].id)
		}
	}
	if len(on) == 0 {
		p.volunteers[0].on = true
		on = append(on, p.volunteers[0].id)
	}
	l.step(nil, on)
	c := churn{plan: l}
	ghosts := make([][]protocol.ID, codeMissLimit) // by how long they will go unnoticed
	minute := 60.0
	var joins int
	for range minutes {
		var came []protocol.ID
		for i := range p.volunteers {
			v := &p.volunteers[i]
			mean := a.SuperAbsence
			if v.on {
				mean = a.SuperSession
			}
			if v.stays || r.Float64() >= minute/mean.seconds() {
				continue
			}
			if v.on = !v.on; v.on {
				came = append(came, v.id)
			} else if ghosts[len(ghosts)-1] = append(ghosts[len(ghosts)-1], v.id); r.Float64() >= a.SuperCrash {
				last := ghosts[len(ghosts)-1]
				ghosts[0], ghosts[len(ghosts)-1] = append(ghosts[0], v.id), last[:len(last)-1]
			}
		}
		left := ghosts[0]
		copy(ghosts, ghosts[1:])
		ghosts[len(ghosts)-1] = nil
		// One that is back before it was missed never left the map.
		for g := range ghosts {
			ghosts[g] = slices.DeleteFunc(ghosts[g], func(id protocol.ID) bool { return slices.Contains(came, id) })
		}
		came = slices.DeleteFunc(came, func(id protocol.ID) bool { return l.of[id] != nil && !slices.Contains(left, id) })
		before := l.serving()
		l.step(left, came)
		c.note(p, before, l.serving())
		joins += len(came)
		c.Changes += float64(len(left) + len(came))
		for _, g := range ghosts {
			c.DeadOnMap += float64(len(g))
		}
		c.Supers += len(l.of)
	}
	c.DeadOnMap /= float64(c.Supers)
	c.Supers /= minutes
	if joins > 0 {
		c.RecordsJoin = c.Records / float64(joins)
	}
	c.Changes /= float64(minutes) * minute
	c.Entries /= float64(minutes) * minute
	c.Records /= float64(minutes) * minute
	c.Ranges = len(l.ranges)
	c.Members = make([]int, 2*partition.Replicas+1)
	for _, s := range l.ranges {
		c.Members[min(len(s.members), len(c.Members)-1)]++
		if len(s.members) < partition.Replicas {
			c.OperatorShare += s.load / float64(p.nodes)
		}
	}
	return c
}

// note counts the entries that differ and the records that their members lack.
func (c *churn) note(p *population, before, after map[protocol.ID]partition.Range) {
	for id, now := range after {
		old, had := before[id]
		if had && old == now {
			continue
		}
		c.Entries++
		c.Records += p.within(now.From, now.To) * p.a.recordsPerNode()
		if both, ok := old.Intersect(now); had && ok {
			c.Records -= p.within(both.From, both.To) * p.a.recordsPerNode()
		}
	}
	for id := range before {
		if _, ok := after[id]; !ok {
			c.Entries++ // its tombstone
		}
	}
}
