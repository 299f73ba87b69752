package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
)

// capacity is how many relayed tunnels the volunteers' connections carry.
type capacity struct {
	Nodes       int     `json:"nodes"`
	Supers      int     `json:"super_nodes"`
	Connections int     `json:"connections"`  // of all super-nodes
	Streams     float64 `json:"streams"`      // of them taken by nodes without UDP, which reach their homes by stream
	Most        float64 `json:"most_tunnels"` // relayed tunnels at once, if every last connection is used
	// Carried is at how many relayed tunnels at once one in a hundred new ones finds no relay.
	Carried float64 `json:"carried_tunnels"`
	// Users is how many nodes that is enough for, if each opens its tunnels spread over a working day.
	Users  float64  `json:"users"`
	Curve  []filled `json:"curve"`
	Demand float64  `json:"demand_tunnels"` // relayed tunnels at once with the usual assumptions
}

// filled is one point: so much of the connections offered, so many tunnels refused.
type filled struct {
	Offered float64 `json:"offered"` // relayed tunnels at once that are wanted, of Most
	Refused float64 `json:"refused"` // share that finds none of its relays free
	Busiest float64 `json:"busiest"` // mean share of connections in use
}

// working is the part of a day in which tunnels are opened.
const working = 8 * 3600.0

// fill offers load to super-nodes of a.Connections each. A tunnel is asked for at a tunnel-node, whose two homes are tried
// first, then one other (codeMostRelays in all); it takes two connections of one relay.
func fill(a assumptions, supers int, r *rand.Rand, loads []float64) (curve []filled, streams float64) {
	free := make([]int, supers)
	users := supers * a.NodesPerVolunteer
	homes := make([][codeWantHomes]int32, users)
	for i := range free {
		free[i] = a.Connections
	}
	for i := range homes {
		for h := range homes[i] {
			homes[i][h] = int32(r.IntN(supers))
			if r.Float64() < a.NoUDP && free[homes[i][h]] > 0 {
				free[homes[i][h]]--
				streams++
			}
		}
	}
	base := append([]int(nil), free...)
	most := float64(supers*a.Connections) / 2
	for _, load := range loads {
		copy(free, base)
		curve = append(curve, offer(free, homes, load*most, r))
		curve[len(curve)-1].Offered = load
	}
	return curve, streams
}

// settling is for how many mean holding times tunnels come and go before those refused are counted, and counting for how many they are.
const settling, counting = 3, 3

// offer runs arrivals and departures, holding times exponential with mean 1, until the number in progress has settled.
func offer(free []int, homes [][codeWantHomes]int32, load float64, r *rand.Rand) (f filled) {
	var ends departures
	now, asked, refused := 0.0, 0.0, 0.0
	all := 0
	for _, n := range free {
		all += n
	}
	for now < settling+counting {
		now += r.ExpFloat64() / load
		for len(ends) > 0 && ends[0].at < now {
			free[ends.pop()] += 2
		}
		h := homes[r.IntN(len(homes))]
		relay := -1
		tries := append(make([]int, 0, codeMostRelays), int(h[0]), int(h[1]))
		for len(tries) < codeMostRelays {
			tries = append(tries, r.IntN(len(free)))
		}
		for _, s := range tries {
			if free[s] >= 2 {
				relay = s
				break
			}
		}
		if now > settling {
			asked++
			refused += when(relay < 0)
		}
		if relay >= 0 {
			free[relay] -= 2
			heap.Push(&ends, departure{now + r.ExpFloat64(), relay})
		}
	}
	left := 0
	for _, n := range free {
		left += n
	}
	return filled{Refused: refused / max(1, asked), Busiest: 1 - float64(left)/math.Max(1, float64(all))}
}

// tunnelsAtOnce is how many relayed tunnels so many nodes have at once in working hours.
func (a assumptions) tunnelsAtOnce(nodes float64) float64 {
	return nodes * a.Tunnels * a.Relayed * a.TunnelMinutes * 60 / working
}

// mostSimulated bounds how many super-nodes tunnels are played through: from some hundreds on more of them change nothing.
const mostSimulated = 2000

// capacityOf is for one size.
func capacityOf(a assumptions, nodes, supers int, r *rand.Rand) capacity {
	c := capacity{Nodes: nodes, Supers: supers, Connections: supers * a.Connections}
	c.Most = float64(c.Connections) / 2
	loads := []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.1, 1.2}
	played := min(supers, mostSimulated)
	c.Curve, c.Streams = fill(a, played, r, loads)
	c.Streams *= float64(supers) / float64(played)
	for i, f := range c.Curve {
		if f.Refused > 0.01 {
			if i > 0 {
				before := c.Curve[i-1]
				c.Carried = c.Most * (before.Offered + (f.Offered-before.Offered)*(0.01-before.Refused)/(f.Refused-before.Refused))
			}
			break
		}
	}
	c.Demand = a.tunnelsAtOnce(float64(nodes))
	c.Users = c.Carried / a.tunnelsAtOnce(1)
	return c
}

type departure struct {
	at    float64
	relay int
}

// departures ends first what ends first.
type departures []departure

func (d departures) Len() int           { return len(d) }
func (d departures) Less(i, j int) bool { return d[i].at < d[j].at }
func (d departures) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *departures) Push(x any) {
	if e, ok := x.(departure); ok {
		*d = append(*d, e)
	}
}

// Pop implements heap.Interface.
func (d *departures) Pop() any {
	old := *d
	e := old[len(old)-1]
	*d = old[:len(old)-1]
	return e
}

func (d *departures) pop() int {
	e, _ := heap.Pop(d).(departure)
	return e.relay
}
