package sim

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// Start is when the virtual clock begins.
var Start = time.UnixMilli(1_800_000_000_000)

// Sim is one run: a world of machines, the network between them and what is still to happen.
type Sim struct {
	seed  uint64
	rand  *rand.Rand
	now   time.Duration
	queue queue
	net   *network
	world *world
	hosts []*host
	byID  map[protocol.ID]*host

	supers  []*super // the operator first
	agents  []*agent
	op      *operator
	weights []int           // of domains, for the planner
	proved  map[string]bool // records whose signature a reader has checked
	oracle  *oracle
	trace   uint64    // hash of all that happened
	log     io.Writer // nil for none
	Stats   Stats
}

// Stats count what a run did.
type Stats struct {
	Events, Messages, Lost       int
	Lookups, Found, NotFound     int
	Unreachable, Stores, Acked   int
	StoresFailed, Crashes, Lies  int
	Epochs, Splits, Cuts, Deaths int
	Waves                        int // time-outs that lookups waited for
}

// New makes an empty world from a seed.
func New(seed uint64, log io.Writer) *Sim {
	s := &Sim{seed: seed, rand: rand.New(rand.NewPCG(seed, 0x63756c76657274)), log: log, trace: 14695981039346656037, byID: make(map[protocol.ID]*host), proved: make(map[string]bool)}
	s.net = newNetwork(s)
	s.world = theWorld()
	s.oracle = newOracle(s)
	return s
}

// Trace is a hash of everything that happened, in its order.
func (s *Sim) Trace() uint64 { return s.trace }

// Violations are what must not have happened.
func (s *Sim) Violations() []string { return s.oracle.violations }

func (s *Sim) at(t time.Duration, do func())    { s.queue.push(max(t, s.now), do) }
func (s *Sim) after(d time.Duration, do func()) { s.at(s.now+d, do) }

// RunTo lets everything happen that is due until then.
func (s *Sim) RunTo(end time.Duration) {
	for len(s.queue.l) > 0 && s.queue.l[0].at <= end {
		e := s.queue.pop()
		s.now = e.at
		s.Stats.Events++
		e.do()
	}
	s.now = end
}

// stop forgets what was still to happen.
func (s *Sim) stop() { s.queue.l = nil }

// time is the true time.
func (s *Sim) time() time.Time { return Start.Add(s.now) }

// between draws a duration.
func (s *Sim) between(a, b time.Duration) time.Duration {
	return a + time.Duration(s.rand.Int64N(int64(b-a)+1))
}

func (s *Sim) chance(p float64) bool { return p > 0 && s.rand.Float64() < p }

// source is a random source of its own for one machine.
func (s *Sim) source() *rand.Rand { return rand.New(rand.NewPCG(s.rand.Uint64(), s.rand.Uint64())) }

// mix takes something that happened into the trace.
func (s *Sim) mix(b []byte) {
	h := s.trace
	for len(b) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 1099511628211
		h ^= h >> 29
		b = b[8:]
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	s.trace = h
}

func (s *Sim) mark(kind byte, a, b int, n uint64) {
	var buf [32]byte
	binary.LittleEndian.PutUint64(buf[:], uint64(s.now))
	binary.LittleEndian.PutUint64(buf[8:], uint64(kind)<<32|uint64(uint32(a)))
	binary.LittleEndian.PutUint64(buf[16:], uint64(uint32(b)))
	binary.LittleEndian.PutUint64(buf[24:], n)
	s.mix(buf[:])
}

// say writes a line of the readable trace.
func (s *Sim) say(format string, a ...any) {
	if s.log != nil {
		fmt.Fprintf(s.log, "%12.6f  %s\n", s.now.Seconds(), fmt.Sprintf(format, a...))
	}
}

// interval is within what time two members that differ must agree.
const interval = dht.RepairInterval
