package sim

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Seed is one run with all faults on.
func Seed(seed uint64, log io.Writer) *Sim {
	s := New(seed, log)
	s.weights = make([]int, 1+s.rand.IntN(3))
	domains := len(s.weights)
	s.newOperator()
	f := &faults{s: s, most: 3 + s.rand.IntN(7)}
	for range f.most - s.rand.IntN(2) {
		f.newSuper()
	}
	for i := range 6 + s.rand.IntN(6) {
		d := domainOf(i % domains)
		s.weights[i%domains] += 1 + s.rand.IntN(20)
		id := s.world.node(d, fmt.Sprint("agent ", i))
		a := s.newAgent(fmt.Sprint("agent", i), id)
		s.op.publish(id.record, s.oracle.issued(must(id.record)))
		a.timer(s.between(time.Second, 20*time.Second), func() { a.move(s.rand.IntN(3)) })
	}
	for i := range 4 {
		s.op.device(domainOf(i%domains), i)
	}
	l := &load{s: s, domains: domains}
	s.RunTo(90 * time.Second)
	const faulty = 7 * time.Minute
	f.until = s.now + faulty
	l.until = f.until
	l.start()
	f.start()
	s.RunTo(f.until)
	f.end()
	s.say("no more faults")
	s.finish()
	return s
}

// domainOf is a customer's number; they lie far apart.
func domainOf(i int) protocol.Domain { return protocol.Domain(0x11111111 * (2*i + 1)) }

func superName(i int) string { return fmt.Sprint("super", i) }

// load is what the customers do.
type load struct {
	s       *Sim
	domains int
	until   time.Duration
}

func (l *load) start() {
	f := &faults{s: l.s, until: l.until}
	f.every(500*time.Millisecond, l.lookup)
	f.every(20*time.Second, l.change)
	f.every(40*time.Second, func() { l.s.op.device(domainOf(l.s.rand.IntN(l.domains)), l.s.rand.IntN(8)) })
}

// target is something of a's domain.
func (l *load) target(a *agent) dht.Target {
	s := l.s
	switch s.rand.IntN(6) {
	case 0, 1:
		return dht.Target{Kind: dht.FindTunnelNodes, Key: protocol.NewID(a.domain, locationKey(s.rand.IntN(3)))}
	case 2:
		return dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(a.domain, hashOf("name of device %d", s.rand.IntN(8)))}
	}
	var same []*agent
	for _, b := range s.agents {
		if b.domain == a.domain {
			same = append(same, b)
		}
	}
	b := same[s.rand.IntN(len(same))]
	kind := dht.FindNodeInfo
	if s.chance(0.2) {
		kind = dht.FindNode
	}
	return dht.Target{Kind: kind, Key: b.ident.id}
}

func (l *load) lookup() {
	a := l.s.agents[l.s.rand.IntN(len(l.s.agents))]
	a.find(l.target(a), nil)
}

func (l *load) change() {
	a := l.s.agents[l.s.rand.IntN(len(l.s.agents))]
	switch l.s.rand.IntN(6) {
	case 0:
		a.move(-1)
	case 1:
		a.restart()
	default:
		a.move(l.s.rand.IntN(3))
	}
}

// finish lets a repair interval pass and holds everybody to the same.
func (s *Sim) finish() {
	// A repair that a fault broke off begins again within the interval; what it then takes comes on top.
	s.RunTo(s.now + settleTime)
	for range 600 { // who missed a map that was made meanwhile has it by repair; an announcement takes its time to all members
		if len(s.op.outbox) == 0 && s.now-s.op.mapped > settleTime && s.now-s.oracle.signed > margin {
			break
		}
		s.RunTo(s.now + time.Second)
	}
	s.compare()
	for _, a := range s.agents {
		for _, b := range s.agents {
			if a.domain == b.domain {
				a.find(dht.Target{Kind: dht.FindNodeInfo, Key: b.ident.id}, s.last)
				a.find(dht.Target{Kind: dht.FindNode, Key: b.ident.id}, s.last)
			}
		}
	}
	s.RunTo(s.now + 30*time.Second)
	s.stop()
}

func (s *Sim) last(l *dht.Lookup, x *run) {
	if _, err := l.Result(); unreachable(err) && !s.leftHalfWay(*x.target) {
		s.oracle.violated("%s cannot reach %s though all is well: %v", x.r.h, s.targetName(*x.target), err)
	}
}

// leftHalfWay reports whether t is about an agent that was ended while it withdrew: who has seen the withdrawal somewhere is given no
// older record, and nobody ends it for the agent until that is back.
func (s *Sim) leftHalfWay(t dht.Target) bool {
	if t.Kind != dht.FindNodeInfo {
		return false
	}
	h := s.oracle.of[mark{protocol.TableNodeInfo, t.Key}]
	if h == nil {
		return false
	}
	last := h.tickets[len(h.tickets)-1]
	i := slices.IndexFunc(s.agents, func(a *agent) bool { return a.ident.id == t.Key })
	return i >= 0 && s.agents[i].location < 0 && !s.agents[i].storing && last.rec.Tombstone && last.acked < 0
}

// compare holds the members of every range to equal digests.
func (s *Sim) compare() {
	for _, n := range s.supers {
		if n.up {
			if _, err := n.disk.Expire(context.Background(), s.time()); err != nil {
				panic(err)
			}
		}
	}
	for i, p := range s.op.placed {
		for _, q := range s.op.placed[:i] {
			a, b := s.super(p.ID), s.super(q.ID)
			if a.gone || b.gone {
				continue // the operator has yet to notice
			}
			for t := protocol.TableNode; t < protocol.TableEnd; t++ {
				g, ok := p.Range.Intersect(q.Range)
				if t.Everywhere() {
					g.From, g.To = 0, 1<<64-1
				} else if !ok {
					continue
				}
				if x, y := a.disk.Digest(t, g.From, g.To), b.disk.Digest(t, g.From, g.To); x != y {
					s.oracle.violated("%s and %s differ in %s: %d and %d records", a, b, t, x.Count, y.Count)
				}
			}
		}
	}
}
