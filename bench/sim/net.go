package sim

import (
	"time"

	"culvert/protocol"
)

// network carries messages between machines, badly.
type network struct {
	s *Sim
	// The faults that are on.
	loss, repeat, reorder float64
	// side of a split a machine is on; machines of different sides do not hear each other.
	side  []int
	parts int           // how many there are
	whole time.Duration // since when there is only one
}

// apart reports whether there is more than one part.
func (n *network) apart() bool { return n.parts > 1 }

// cut puts machines on sides of a split; heal ends it.
func (n *network) cut(side func(h *host) int) {
	n.s.Stats.Splits++
	n.parts = 2
	for i, h := range n.s.hosts {
		n.side[i] = side(h)
	}
}

func (n *network) heal() {
	clear(n.side)
	n.parts, n.whole = 1, n.s.now
}

func newNetwork(s *Sim) *network { return &network{s: s} }

// message is a datagram whose seal was proved.
type message struct {
	from, to *host
	call     uint64 // of the caller; 0 for one way
	reply    bool
	command  protocol.Command
	payload  []byte
}

func (n *network) split(a, b *host) bool {
	return n.side[a.index] != n.side[b.index]
}

// delay is the way from a to b: the distance is theirs for good, the rest is chance.
func (n *network) delay(a, b *host) time.Duration {
	far := time.Duration(2+(a.index*31+b.index*31)%40) * time.Millisecond
	d := far + time.Duration(n.s.rand.Int64N(int64(4*time.Millisecond)))
	if n.s.chance(n.reorder) {
		d += n.s.between(0, 800*time.Millisecond)
	}
	return d
}

// send takes a message on its way.
func (n *network) send(m message) {
	s := n.s
	s.Stats.Messages++
	s.mark('m', m.from.index, m.to.index, uint64(m.command)<<32|uint64(len(m.payload)))
	s.mix(m.payload)
	times := 1
	switch {
	case n.split(m.from, m.to):
		times = 0
		if s.log != nil {
			s.say("%s → %s %s: no way across the split", m.from, m.to, m.command)
		}
	case s.chance(n.loss):
		times = 0
		if s.log != nil {
			s.say("%s → %s %s: lost", m.from, m.to, m.command)
		}
	case s.chance(n.repeat):
		times = 2
	}
	if times == 0 {
		s.Stats.Lost++
	}
	for range times {
		s.after(n.delay(m.from, m.to), func() {
			if m.to.up && !n.split(m.from, m.to) {
				m.to.receive(m)
			}
		})
	}
}
