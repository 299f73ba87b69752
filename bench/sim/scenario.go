package sim

import (
	"fmt"
	"io"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Mesh is what a scenario begins with.
type Mesh struct {
	Supers, Agents, Domains, Devices int
	Whole                            bool // no range is ever cut
}

// NewMesh makes a mesh in which everybody has announced himself and nothing is moving.
func NewMesh(seed uint64, m Mesh, log io.Writer) *Sim {
	s := New(seed, log)
	s.weights = make([]int, m.Domains)
	s.newOperator()
	s.op.whole = m.Whole
	f := &faults{s: s}
	for range m.Supers {
		f.newSuper()
	}
	for i := range m.Agents {
		d := domainOf(i % m.Domains)
		s.weights[i%m.Domains]++
		id := s.world.node(d, fmt.Sprint("agent ", i))
		a := s.newAgent(fmt.Sprint("agent", i), id)
		s.op.publish(id.record, s.oracle.issued(must(id.record)))
		a.timer(s.between(10*time.Second, 5*time.Minute), func() { a.move(i % 5) })
	}
	for i := range m.Devices {
		s.op.device(domainOf(i%m.Domains), i)
	}
	s.settle()
	return s
}

// settle lets time pass until no range has been on the move for a while, and everybody has announced himself.
func (s *Sim) settle() {
	for calm, epoch := 0, uint64(0); calm < 9 && s.now < time.Hour; calm++ {
		s.RunTo(s.now + time.Minute)
		for _, p := range s.op.placed {
			if p.Fill.Valid() || s.op.epoch != epoch {
				calm, epoch = 0, s.op.epoch
			}
		}
	}
}

// Outcome of one lookup of a scenario.
type Outcome struct {
	Target dht.Target
	Record *protocol.Record // nil for none
	Err    error
	Waves  int // time-outs waited for
	Took   time.Duration
}

// ask looks up one thing and waits for the answer.
func (s *Sim) ask(a *agent, t dht.Target) Outcome {
	var o *Outcome
	began := s.now
	a.find(t, func(l *dht.Lookup, x *run) { o = outcome(l, x, s.now-began) })
	for o == nil {
		s.RunTo(s.now + 10*time.Millisecond)
	}
	return *o
}

func outcome(l *dht.Lookup, x *run, took time.Duration) *Outcome {
	o := &Outcome{Target: *x.target, Waves: x.waves, Took: took}
	recs, err := l.Result()
	if o.Err = err; len(recs) > 0 {
		o.Record = recs[0]
	}
	return o
}
