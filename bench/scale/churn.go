package main

import (
	"math/rand/v2"
	"slices"
	"time"

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
	OperatorShare float64 `json:"operator_share"` // of the nodes, in whose ranges the operator serves too for want of members
	Maps          float64 `json:"maps_s"`
	Reserve       float64 `json:"without_a_place"` // volunteers that are there and not on the map

	joins float64

	plan *plan
}

// simulateChurn has volunteers come and go for so many minutes, after they have been placed. The operator changes the map with
// each round of its watch, and what has gone without a word is on it until it has missed codeMissLimit of them.
func simulateChurn(p *population, minutes int, r *rand.Rand) churn {
	l := newPlan(p, r)
	var on []volunteer
	for i := range p.volunteers {
		v := &p.volunteers[i]
		if v.on = v.stays || r.Float64() < p.a.superOn(); v.on {
			on = append(on, *v)
		}
	}
	l.begin(on)
	c := churn{plan: l}
	ghosts := make([][]protocol.ID, codeMissLimit) // by how long they will go unnoticed
	rounds := max(1, int(time.Duration(minutes)*time.Minute/codeWatch))
	for range rounds {
		came := p.round(r, ghosts)
		left := ghosts[0]
		copy(ghosts, ghosts[1:])
		ghosts[len(ghosts)-1] = nil
		for g := range ghosts { // one that is back before it was missed never left the map
			ghosts[g] = slices.DeleteFunc(ghosts[g], func(id protocol.ID) bool {
				return slices.ContainsFunc(came, func(v volunteer) bool { return v.id == id })
			})
			c.DeadOnMap += float64(len(ghosts[g]))
		}
		before := l.state.Present
		c.Changes += float64(len(left) + len(came))
		c.joins += float64(len(came))
		l.step(left, came)
		c.note(p, before, l.state.Present)
	}
	c.sum(p, float64(rounds))
	return c
}

// round has volunteers come and go. Who goes without a word is added to the last of the ghosts, who says so to the first.
func (p *population) round(r *rand.Rand, ghosts [][]protocol.ID) (came []volunteer) {
	for i := range p.volunteers {
		v := &p.volunteers[i]
		mean := p.a.SuperAbsence
		if v.on {
			mean = p.a.SuperSession
		}
		if v.stays || r.Float64() >= codeWatch.Seconds()/mean.seconds() {
			continue
		}
		g := 0
		switch v.on = !v.on; {
		case v.on:
			came = append(came, *v)
			continue
		case r.Float64() < p.a.SuperCrash:
			g = len(ghosts) - 1
		}
		ghosts[g] = append(ghosts[g], v.id)
	}
	return came
}

// note counts the entries that differ and the records that their members lack.
func (c *churn) note(p *population, before, after []partition.Placement) {
	old := make(map[protocol.ID]partition.Placement, len(before))
	for _, x := range before {
		old[x.ID] = x
	}
	for _, x := range after {
		o, had := old[x.ID]
		delete(old, x.ID)
		if !had {
			o = partition.Placement{Range: partition.None(), Fill: partition.None()}
		}
		if x.ID == operatorID {
			c.OperatorShare += p.within(x.Range.From, x.Range.To) / float64(p.nodes)
		} else {
			c.Supers++
			c.Records += p.missing(x, o) * p.a.recordsPerNode()
		}
		if had && !samePlace(o, x) || !had {
			c.Entries++
		}
	}
	c.Entries += float64(len(old)) // tombstones
	if len(before) > 0 && !slices.EqualFunc(before, after, samePlace) {
		c.Maps++
	}
	c.Reserve += float64(len(c.plan.state.Supers))
}

// sum makes means of what was counted, and looks at the map that it ended with.
func (c *churn) sum(p *population, rounds float64) {
	c.Reserve = (c.Reserve - float64(c.Supers)) / rounds
	c.DeadOnMap /= max(1, float64(c.Supers))
	c.Supers = int(float64(c.Supers)/rounds + 0.5)
	c.RecordsJoin = c.Records / max(1, c.joins)
	c.OperatorShare /= rounds
	for _, x := range []*float64{&c.Changes, &c.Entries, &c.Records, &c.Maps} {
		*x /= rounds * codeWatch.Seconds()
	}
	v := newView(c.plan.state.Present)
	c.Ranges = len(v.segments)
	c.Members = make([]int, 2*partition.Replicas+1)
	for _, s := range v.segments {
		c.Members[min(len(s.members), len(c.Members)-1)]++
	}
}
