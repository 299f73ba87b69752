package main

import (
	"fmt"

	"culvert/bench/plot"
)

// picture is one plot and its file.
type picture struct {
	file string
	plot.Plot
}

// pictures are all plots of a study.
func (st *study) pictures() []picture {
	l := []picture{
		st.causes("operator-as-built", "Load on the operator as built", 0, func(l loads) flows { return l.Operator }, "messages/s, both ways", false),
		st.causes("operator-recommended", "Load on the operator as recommended", len(designs())-1, func(l loads) flows { return l.Operator }, "messages/s, both ways", false),
		st.ratio(),
		st.causes("supernode-as-built", "Load on the mean super-node as built", 0, func(l loads) flows { return l.Super }, "bytes/s, both ways", true),
		st.causes("supernode-recommended", "Load on the mean super-node as recommended", len(designs())-1, func(l loads) flows { return l.Super }, "bytes/s, both ways", true),
		st.distribution(),
		st.causes("user-as-built", "Bytes of one user as built", 0, func(l loads) flows { return l.User }, "bytes/s, both ways", true),
		st.causes("user-recommended", "Bytes of one user as recommended", len(designs())-1, func(l loads) flows { return l.User }, "bytes/s, both ways", true),
		st.compared(), st.behind(), st.moved(), st.capacities(), st.refusals(), st.fallbackPlot(),
	}
	for _, who := range []string{"many customers' machines", "one customer"} {
		l = append(l, st.hit(who))
	}
	return append(l, st.lies())
}

func (st *study) nodes() plot.Axis {
	return plot.Axis{Label: "nodes running", Log: true, Least: float64(st.Scope.Sizes[0]), Most: float64(st.Scope.Sizes[len(st.Scope.Sizes)-1])}
}

func (st *study) notes(more ...string) []string {
	a := st.Assumptions
	return append(more,
		fmt.Sprintf("1 node in %d is a super-node, which stays %g h at a time; %g lookups a node and day, %g %% after what does not exist; %g %% loss each way.",
			a.NodesPerVolunteer, float64(a.SuperSession), a.Lookups, 100*a.LookupAbsent, 100*a.Loss),
		st.made())
}

func (st *study) made() string {
	return fmt.Sprintf("culvert %s, %s, seed %d", st.Culvert, st.Date.UTC().Format("2006-01-02"), st.Scope.Seed)
}

// line is a value of every size.
func (st *study) line(name string, colour int, of func(point) float64) plot.Line {
	l := plot.Line{Name: name, Colour: colour}
	for _, p := range st.Points {
		l.X, l.Y = append(l.X, float64(p.Nodes)), append(l.Y, of(p))
	}
	return l
}

// causes draws what a design's load is made of.
func (st *study) causes(file, title string, design int, of func(loads) flows, unit string, bytes bool) picture {
	amount := func(f flow) float64 {
		if bytes {
			return f.Bytes
		}
		return f.Messages
	}
	p := plot.Plot{Title: title, Notes: st.notes(), X: st.nodes(), Y: plot.Axis{Label: unit, Log: true}}
	p.Lines = append(p.Lines, st.line("all", 7, func(pt point) float64 { return amount(of(pt.Loads[design]).total()) }))
	for i, f := range of(st.Points[0].Loads[design]) {
		p.Lines = append(p.Lines, st.line(f.Cause, i, func(pt point) float64 { return amount(of(pt.Loads[design]).of(f.Cause)) }))
		p.Lines[len(p.Lines)-1].Dashed = i >= 6
	}
	return picture{file, p}
}

func (st *study) ratio() picture {
	p := plot.Plot{Title: "The operator's messages with lookups and without", X: st.nodes(), Y: plot.Axis{Label: "messages/s, both ways", Log: true}}
	for i, d := range designs() {
		name := d.Name
		p.Lines = append(p.Lines,
			st.line(fmt.Sprintf("%s, %g lookups a day", name, st.Assumptions.Lookups), i, func(pt point) float64 { return pt.Loads[i].Operator.total().Messages }),
			st.line(name+", none", i, func(pt point) float64 { return pt.Loads[i].Idle.total().Messages }))
		p.Lines[len(p.Lines)-1].Dashed = true
	}
	last := st.Points[len(st.Points)-1]
	end := len(last.Loads) - 1
	p.Notes = st.notes(fmt.Sprintf("At %s nodes lookups make it %.3f times as much as built, %.3f times as recommended.", plot.Number(float64(last.Nodes)), last.Loads[0].Ratio, last.Loads[end].Ratio))
	return picture{"operator-lookups", p}
}

// limitNote says from where on what is built is arithmetic only.
func (st *study) limitNote() string {
	return fmt.Sprintf("A reader takes in %d entries of a map at once (tried up to %d). Who has missed more is left with an old map.", st.MapLimit, st.Scope.MostMap)
}

// behind draws how long a reader may be away.
func (st *study) behind() picture {
	flat := func(name string, colour int, seconds float64) plot.Line {
		return dashed(st.line(name, colour, func(point) float64 { return seconds / 60 }))
	}
	return picture{"map-behind", plot.Plot{
		Title: "How long a reader may be away and still catch up", X: st.nodes(), Y: plot.Axis{Label: "minutes", Log: true}, Notes: st.notes(st.limitNote()),
		Lines: []plot.Line{
			st.line("until more has changed than it takes in", 0, func(p point) float64 { return p.Behind / 60 }),
			flat("between two of its questions", 1, refresh()), flat("a night of 15 h", 2, 15*3600),
		},
	}}
}

// compared draws what the designs make of a user and of a super-node.
func (st *study) compared() picture {
	p := plot.Plot{Title: "Bytes of a user and of a super-node, by design", X: st.nodes(), Y: plot.Axis{Label: "bytes/s, both ways", Log: true}, Notes: st.notes(st.limitNote())}
	for i, d := range designs() {
		p.Lines = append(p.Lines,
			st.line("super-node, "+d.Name, i, func(pt point) float64 { return pt.Loads[i].Super.total().Bytes }),
			dashed(st.line("user, "+d.Name, i, func(pt point) float64 { return pt.Loads[i].User.total().Bytes })))
	}
	return picture{"designs", p}
}

func (st *study) distribution() picture {
	return picture{"supernode-spread", plot.Plot{
		Title: "Records and questions of one super-node", Notes: st.notes("Questions: lookups and announcements that nodes send to it as a member of its range."),
		X: st.nodes(), Y: plot.Axis{Label: "records; questions/s", Log: true},
		Lines: []plot.Line{
			st.line("records, most", 0, func(p point) float64 { return p.Geometry.Records.Max }),
			st.line("records, 99 in 100", 1, func(p point) float64 { return p.Geometry.Records.P99 }),
			st.line("records, median", 2, func(p point) float64 { return p.Geometry.Records.P50 }),
			dashed(st.line("questions/s, most", 0, func(p point) float64 { return p.Geometry.Queries.Max })),
			dashed(st.line("questions/s, 99 in 100", 1, func(p point) float64 { return p.Geometry.Queries.P99 })),
			dashed(st.line("questions/s, median", 2, func(p point) float64 { return p.Geometry.Queries.P50 })),
		},
	}}
}

func dashed(l plot.Line) plot.Line {
	l.Dashed = true
	return l
}

func (st *study) moved() picture {
	return picture{"records-moved", plot.Plot{
		Title: "What churn moves", Notes: st.notes("Records: (key, record) pairs that a member lacks when its range is new or grows."),
		X: st.nodes(), Y: plot.Axis{Label: "a second, in the whole mesh", Log: true},
		Lines: []plot.Line{
			st.line("records moved", 0, func(p point) float64 { return p.Churn.Records }),
			st.line("super-nodes joining or leaving", 1, func(p point) float64 { return p.Churn.Changes }),
			st.line("entries of the map changed", 2, func(p point) float64 { return p.Churn.Entries }),
			dashed(st.line("records moved for one that joins", 3, func(p point) float64 { return p.Churn.RecordsJoin })),
			dashed(st.line("records moved, of each super-node", 4, func(p point) float64 { return p.Churn.Records / float64(max(1, p.Churn.Supers)) })),
		},
	}}
}

func (st *study) capacities() picture {
	a := st.Assumptions
	p := plot.Plot{
		Title: fmt.Sprintf("Capacity: %d connections of 1 node in %d", a.Connections, a.NodesPerVolunteer), X: st.nodes(), Y: plot.Axis{Label: "relayed tunnels at once", Log: true},
		Notes: st.notes(fmt.Sprintf("Demand: %g tunnels a node in a working day of 8 h, %g minutes each, the share that is relayed as named.", a.Tunnels, a.TunnelMinutes)),
	}
	add := func(name string, colour int, of func(capacity) float64) {
		l := plot.Line{Name: name, Colour: colour}
		for _, c := range st.Capacity {
			l.X, l.Y = append(l.X, float64(c.Nodes)), append(l.Y, of(c))
		}
		p.Lines = append(p.Lines, l)
	}
	add("every connection in use", 7, func(c capacity) float64 { return c.Most })
	add("1 in 100 refused", 0, func(c capacity) float64 { return c.Carried })
	for i, share := range []float64{1, a.Relayed, 0.05} {
		add(fmt.Sprintf("demand, %g %% relayed", 100*share), i+1, func(c capacity) float64 { return c.Demand * share / a.Relayed })
		p.Lines[len(p.Lines)-1].Dashed = true
	}
	return picture{"capacity", p}
}

func (st *study) refusals() picture {
	p := plot.Plot{
		Title: "Tunnels that find no relay", Notes: st.notes(fmt.Sprintf("Tried: the tunnel-node's two homes, then one other; %g %% of the nodes hold their homes by stream.", 100*st.Assumptions.NoUDP)),
		X: plot.Axis{Label: "relayed tunnels wanted at once, of as many as there are connections for"}, Y: plot.Axis{Label: "share refused"},
	}
	for i, c := range st.Capacity {
		l := plot.Line{Name: fmt.Sprintf("%s nodes, %s super-nodes", plot.Number(float64(c.Nodes)), plot.Number(float64(c.Supers))), Colour: i}
		for _, f := range c.Curve {
			l.X, l.Y = append(l.X, f.Offered), append(l.Y, f.Refused)
		}
		p.Lines = append(p.Lines, l)
	}
	return picture{"refused", p}
}

func (st *study) fallbackPlot() picture {
	n := st.Points[len(st.Points)-1].Nodes
	p := plot.Plot{
		Title: fmt.Sprintf("Lookups under loss, %s nodes", plot.Number(float64(n))),
		Notes: []string{
			fmt.Sprintf("Real dht.Lookup, sampled users; a question is sent again after 250 ms, 750 ms, 1.75 s; %g %% of the lookups after what does not exist.", 100*st.Assumptions.LookupAbsent),
			st.made(),
		},
		X: plot.Axis{Label: "loss of datagrams each way, %"}, Y: plot.Axis{Label: "ratio; questions a lookup", Log: true},
	}
	add := func(name string, colour int, of func(fallback) float64) {
		l := plot.Line{Name: name, Colour: colour}
		for _, f := range st.Fallback {
			l.X, l.Y = append(l.X, 100*f.Loss), append(l.Y, of(f))
		}
		p.Lines = append(p.Lines, l)
	}
	add("operator with / without, as built", 0, func(f fallback) float64 { return f.Ratios.AsBuilt })
	add("operator with / without, recommended", 1, func(f fallback) float64 { return f.Ratios.Recommended })
	add("super-nodes asked a lookup", 2, func(f fallback) float64 { return f.Readings.Asks })
	add("operators asked a lookup", 3, func(f fallback) float64 { return f.Readings.Operator })
	add("share that exists and is not found", 4, func(f fallback) float64 { return f.Readings.Unreachable })
	add("share missing, not all members say so", 5, func(f fallback) float64 { return f.Readings.Unsure })
	return picture{"loss", p}
}

// hit draws the chance to meet a malicious super-node against K.
func (st *study) hit(who string) picture {
	p := plot.Plot{
		Title: "Chance to ask a malicious super-node: " + who, Y: plot.Axis{Label: "share of first questions", Log: true, Least: 1e-4, Most: 1},
		X:     plot.Axis{Label: "K, super-nodes asked at once", Least: 1, Most: mostK},
		Notes: st.notes(fmt.Sprintf("%s nodes, real map and order of asking. Where a range has fewer than K members, all of them are asked.", plot.Number(float64(st.Scope.At)))),
	}
	colour := 0
	for _, m := range st.Malice {
		if m.Attacker != who {
			continue
		}
		a, b := plot.Line{Name: fmt.Sprintf("%g %% malicious: one or more", 100*m.Share), Colour: colour}, plot.Line{Name: fmt.Sprintf("%g %%: all of them", 100*m.Share), Colour: colour, Dashed: true}
		for k := range m.Any {
			a.X, a.Y = append(a.X, float64(k+1)), append(a.Y, m.Any[k])
			b.X, b.Y = append(b.X, float64(k+1)), append(b.Y, m.All[k])
		}
		p.Lines = append(p.Lines, a, b)
		colour++
	}
	file := "malicious-many"
	if who == "one customer" {
		file = "malicious-one-customer"
	}
	return picture{file, p}
}

// lies draws what lies do to whole lookups.
func (st *study) lies() picture {
	p := plot.Plot{
		Title: "What liars do to lookups at K = 2", X: plot.Axis{Label: "share of all super-nodes that lie, %"}, Y: plot.Axis{Label: "share of lookups", Log: true, Least: 1e-4, Most: 1},
		Notes: st.notes(fmt.Sprintf("%s nodes, real dht.Lookup. Wrong: an older record, or \"not found\" of what exists. Unsure: it does not exist, and not all members say so.", plot.Number(float64(st.Scope.At)))),
	}
	for w, who := range []string{"many customers' machines", "one customer"} {
		lines := map[string]*plot.Line{}
		for _, m := range st.Malice {
			if m.Attacker != who {
				continue
			}
			for i, x := range m.Lies {
				for j, y := range []float64{x.Stale + x.WronglyNone, x.Unsure} {
					name := fmt.Sprintf("%s (%s): %s", x.Manner, []string{"many", "one"}[w], []string{"wrong", "unsure"}[j])
					l := lines[name]
					if l == nil {
						p.Lines = append(p.Lines, plot.Line{Name: name, Colour: 2*i + w, Dashed: j == 1})
						l = new(plot.Line)
						lines[name] = l
					}
					l.X, l.Y = append(l.X, 100*m.Share), append(l.Y, y)
				}
			}
		}
		for i := range p.Lines {
			if l := lines[p.Lines[i].Name]; l != nil {
				p.Lines[i].X, p.Lines[i].Y = l.X, l.Y
			}
		}
	}
	return picture{"lies", p}
}
