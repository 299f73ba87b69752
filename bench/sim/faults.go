package sim

import (
	"time"

	"culvert/operator/care"
)

// faults makes things go wrong until it is told to stop. At most one member of a range is lying, dead or without its disk at a
// time, and two repair intervals after: that is what R = 3 with W = 2 is for. Crashes that lose no synced write, and splits,
// may hit any number at once.
type faults struct {
	s       *Sim
	until   time.Duration
	wounded time.Duration // until when nobody else may be lost
	names   int           // of super-nodes so far
	most    int           // super-nodes at a time
}

// A crash and a split, one after the other, are over before the operator takes anybody off the map for them (care.MissLimit
// rounds), and the next comes only after the operator has seen that: who is off the map counts as lost.
const (
	longestSplit = 40 * time.Second
	longestCrash = 35 * time.Second
	breather     = 45 * time.Second
)

// every does something at random times, on average once in mean.
func (f *faults) every(mean time.Duration, do func()) {
	s := f.s
	wait := time.Duration(s.rand.ExpFloat64() * float64(mean))
	if s.now+wait >= f.until {
		return
	}
	s.after(wait, func() {
		do()
		f.every(mean, do)
	})
}

func (f *faults) start() {
	f.every(90*time.Second, f.weather)
	f.every(100*time.Second, f.split)
	f.every(50*time.Second, f.crash)
	f.every(5*time.Minute, f.powerCut)
	f.every(4*time.Minute, f.operatorOff)
	f.every(time.Minute, f.lose)
	f.every(2*time.Minute, f.join)
	f.every(3*time.Minute, f.skew)
}

// end is the last fault's end: everything is as it should be from now on.
func (f *faults) end() {
	s := f.s
	s.net.loss, s.net.repeat, s.net.reorder = 0, 0, 0
	s.net.heal()
	for _, n := range s.supers {
		f.honest(n)
		n.skew = 0
		if !n.up && !n.gone {
			f.back(n)
		}
	}
	for _, a := range s.agents {
		a.skew = 0
	}
}

func (f *faults) weather() {
	n := f.s.net
	n.loss = []float64{0, 0.02, 0.1, 0.2}[f.s.rand.IntN(4)]
	n.repeat = []float64{0, 0.05, 0.2}[f.s.rand.IntN(3)]
	n.reorder = []float64{0, 0.05, 0.3}[f.s.rand.IntN(3)]
	f.s.say("loss %.2f, repeats %.2f, out of order %.2f", n.loss, n.repeat, n.reorder)
}

// split cuts the network in two for less than what gets a super-node out of the map.
func (f *faults) split() {
	s := f.s
	if s.net.apart() || s.now-s.net.whole < breather {
		return
	}
	share := 0.1 + 0.4*s.rand.Float64()
	s.net.cut(func(*host) int {
		if s.chance(share) {
			return 1
		}
		return 0
	})
	s.Stats.Cuts++
	s.say("the network falls apart")
	s.after(s.between(2*time.Second, longestSplit), func() {
		if s.net.apart() {
			s.net.heal()
			s.say("the network is whole again")
		}
	})
}

// pick is a super-node at random that is up, or nil.
func (f *faults) pick() *super {
	var l []*super
	for _, n := range f.s.supers[1:] {
		if n.up && f.s.now-n.since >= breather {
			l = append(l, n)
		}
	}
	if len(l) == 0 {
		return nil
	}
	return l[f.s.rand.IntN(len(l))]
}

func (f *faults) back(n *super) {
	if n.up || n.gone {
		return
	}
	f.s.say("%s starts", n)
	if n == f.s.op.node {
		f.s.op.restart()
		return
	}
	n.start()
}

func (f *faults) down(n *super, longest time.Duration) {
	n.crash()
	f.s.after(f.s.between(100*time.Millisecond, longest), func() { f.back(n) })
}

func (f *faults) crash() {
	if n := f.pick(); n != nil {
		f.down(n, longestCrash)
	}
}

// powerCut stops everybody at once.
func (f *faults) powerCut() {
	for _, n := range f.s.supers {
		if n.up && f.s.now-n.since >= breather && f.s.chance(0.8) {
			f.down(n, longestCrash)
		}
	}
	for _, a := range f.s.agents {
		if f.s.chance(0.3) {
			a.restart()
		}
	}
}

func (f *faults) operatorOff() {
	if n := f.s.op.node; n.up {
		f.down(n, 2*time.Minute)
	}
}

// lose is what only one member of a range may suffer at a time: its death, the loss of its disk, or that it lies.
func (f *faults) lose() {
	s := f.s
	n := f.pick()
	if n == nil || s.now < f.wounded {
		return
	}
	alone := f.alone()
	switch k := s.rand.IntN(4); {
	case alone && k < 2:
	case k == 0:
		s.Stats.Deaths++
		f.wounded = s.now + care.MissAlone*watchEvery + 3*interval
		n.crash()
		n.gone = true
		s.say("%s is dead", n)
	case k == 1:
		s.Stats.Deaths++
		f.wounded = s.now + 3*interval
		n.crash()
		n.disk.wipe()
		n.wiped = s.now
		s.say("%s has a new disk", n)
		s.after(s.between(time.Second, time.Minute), func() { f.back(n) })
	default:
		kind := lieNames[s.rand.IntN(len(lieNames))]
		long := s.between(10*time.Second, 3*time.Minute)
		f.wounded = s.now + long + 2*interval
		n.lie = n.newLie(kind)
		s.Stats.Lies++
		s.say("%s is %s", n, kind)
		s.after(long, func() { f.honest(n) })
	}
}

// alone reports whether somebody may have what nobody else has, since the others are away or have been, or are yet to serve: it
// would go with him.
func (f *faults) alone() bool {
	s := f.s
	alone := s.net.apart()
	for _, o := range s.supers {
		alone = alone || !o.gone && (!o.up || s.now-o.since < settleTime)
	}
	for _, p := range s.op.placed {
		alone = alone || p.Fill.Valid()
	}
	return alone
}

func (f *faults) honest(n *super) {
	if n.lie == nil {
		return
	}
	n.lie = nil
	n.lied, n.since = f.s.now, f.s.now
	f.s.say("%s is honest", n)
}

// join brings a new super-node, or one leaves.
func (f *faults) join() {
	s := f.s
	alive := 0
	for _, n := range s.supers[1:] {
		if !n.gone {
			alive++
		}
	}
	if alive < f.most {
		f.newSuper()
	} else if n := f.pick(); n != nil && s.now >= f.wounded && !f.alone() {
		f.wounded = s.now + 3*interval
		s.say("%s leaves", n)
		s.op.leave(n.host)
		n.gone = true
		s.after(10*time.Second, func() {
			if n.up {
				n.crash()
			}
		})
	}
}

func (f *faults) newSuper() {
	f.names++
	s := f.s
	d := domainOf(s.rand.IntN(6))
	s.newSuper(superName(f.names), s.world.node(d, superName(f.names)))
}

// skew sets a machine's clock wrong by a little, as one is that the operator has corrected.
func (f *faults) skew() {
	s := f.s
	h := s.hosts[s.rand.IntN(len(s.hosts))]
	h.skew = s.between(0, 4*time.Second) - 2*time.Second
	s.say("the clock of %s is off by %v", h, h.skew)
}
