package punch

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
)

// The world of the simulations: two sites on an in-memory internet, observers that tell each what its NAT shows, and the
// signalling between them as a delay.

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	lineLatency = 10 * time.Millisecond // of each site's line
	signalling  = 60 * time.Millisecond // one way, through a super-node
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kind is a sort of site.
type kind struct {
	name    string
	nat     *memnet.NATConfig // nil: open
	mapping protocol.Mapping
}

func with(cfg memnet.NATConfig) *memnet.NATConfig { return &cfg }

var (
	open           = kind{"open", nil, protocol.MappingIndependent}
	fullCone       = kind{"full-cone", with(memnet.FullCone()), protocol.MappingIndependent}
	restricted     = kind{"restricted", with(memnet.Restricted()), protocol.MappingIndependent}
	portRestricted = kind{"port-restricted", with(memnet.PortRestricted()), protocol.MappingIndependent}
	otherPort      = kind{"eim-other-port", with(memnet.NATConfig{
		Filtering: memnet.AddressAndPortDependent, Ports: memnet.RandomPorts}), protocol.MappingIndependent}
	random     = kind{"random", with(memnet.SymmetricRandom()), protocol.MappingRandom}
	sequential = kind{"sequential", with(memnet.SymmetricSequential()), protocol.MappingSequential}

	easyKinds = []kind{open, fullCone, restricted, portRestricted, otherPort}
	allKinds  = append(append([]kind(nil), easyKinds...), sequential, random)
)

// world is one internet with two ends.
type world struct {
	*memnet.Net
	observers [2]*memnet.Socket
	ends      [2]*end // requester, tunnel-node
}

func newWorld(seed uint64) *world {
	w := &world{Net: memnet.New(seed, epoch)}
	for i := range w.observers {
		w.observers[i] = w.Host(nil, netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})).Listen(7700, nil)
	}
	return w
}

// end is one of the two, with what it learnt.
type end struct {
	w       *world
	host    *memnet.Host
	sockets []*memnet.Socket // 0: the main one
	side    Side
	local   bool
	m       *Machine
	timer   *memnet.Timer
	begun   time.Time
	took    time.Duration
	found   *Found
	err     error
	done    bool
	deaf    int        // sockets that cannot be opened, of those wanted
	echo    func(Send) // sees what is sent
	steps   int
	heardAt int // socket at which the last non-punch packet came
}

// site puts an end behind a NAT of its own; loss is of its line, before the NAT.
func (w *world) site(i int, k kind, behind *memnet.NAT, loss float64) *end {
	external, inside := netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), netip.AddrFrom4([4]byte{192, 168, byte(i + 1), 2})
	if behind != nil {
		external = netip.AddrFrom4([4]byte{100, 64, 0, byte(i + 1)})
	}
	var h *memnet.Host
	if k.nat == nil {
		h = w.Host(behind, external)
	} else {
		h = w.Host(w.NAT(*k.nat, behind, external), inside)
	}
	return w.end(i, h, k.mapping, loss)
}

// end makes an end of a host and has the observers see it.
func (w *world) end(i int, h *memnet.Host, mapping protocol.Mapping, loss float64) *end {
	h.SetLink(memnet.Link{Latency: lineLatency, Jitter: 2 * time.Millisecond, Loss: 0})
	e := &end{w: w, host: h, heardAt: -1}
	e.sockets = []*memnet.Socket{h.Listen(7700, nil)}
	e.side.Punch = protocol.Punch{Wanted: true, Mapping: mapping, Step: 1}
	e.candidate(protocol.CandidateHost, e.sockets[0].Addr(), 100)
	for _, o := range w.observers { // the last one's view stands
		var seen netip.AddrPort
		o.OnReceive(func(_ time.Time, from netip.AddrPort, _ []byte) { seen = from })
		e.sockets[0].Send(o.Addr(), []byte("who am I"))
		w.RunFor(200 * time.Millisecond)
		e.side.Candidates = e.side.Candidates[:1]
		if seen != e.sockets[0].Addr() {
			e.candidate(protocol.CandidateSeen, seen, 300)
		}
	}
	h.SetLink(memnet.Link{Latency: lineLatency, Jitter: 2 * time.Millisecond, Loss: 1 - math.Sqrt(1-loss)}) // of one way: loss
	w.ends[i] = e
	return e
}

func (e *end) candidate(k protocol.CandidateKind, a netip.AddrPort, priority uint32) {
	e.side.Candidates = append(e.side.Candidates, protocol.Candidate{
		Kind: k, Protocol: protocol.UDP, Addr: protocol.AddrOf(a), Priority: priority})
}

func punchEnd(t testing.TB, requester bool) *protocol.PunchEnd {
	id := func(b byte) protocol.ID { return protocol.NewID(7, protocol.Hash{b}) }
	e, err := protocol.NewPunchEnd(protocol.Hash{1, 2, 3}, id(1), id(2), requester)
	must(t, err)
	return e
}

// meet runs the attempt until both ends are done, or for 15 s.
func (w *world) meet(t testing.TB, seed uint64) {
	t.Helper()
	u, n := w.ends[0], w.ends[1]
	u.start(t, Setup{Requester: true, Waits: true, Peer: Side{}, Local: u.local}, seed)
	w.After(signalling, func() { n.start(t, Setup{Peer: u.side, Local: n.local}, seed+1<<32) })
	w.After(2*signalling, func() { u.step(Answer{n.side}) })
	for end := w.Now().Add(15 * time.Second); w.Now().Before(end) && !(u.over() && n.over()); {
		if !w.Step() {
			break
		}
	}
}

// over: this end has a result, as Meet would return it.
func (e *end) over() bool { return e.found != nil || e.err != nil }

func (e *end) start(t testing.TB, s Setup, seed uint64) {
	s.End, s.Mine = punchEnd(t, s.Requester), e.side.Punch
	for i := range 8 {
		s.Seed[i] = byte(seed >> (8 * i))
	}
	s.Seed[8] = byte(len(e.side.Candidates))
	e.begun = e.w.Now()
	e.m = New(e.begun, s)
	e.listen(0)
	e.step(Tick{})
}

func (e *end) listen(i int) {
	e.sockets[i].OnReceive(func(_ time.Time, from netip.AddrPort, b []byte) {
		if len(b) != protocol.PunchSize {
			e.heardAt = i
			return
		}
		e.step(Packet{Socket: i, From: from, Bytes: b})
	})
}

func (e *end) step(ev Event) {
	if e.m == nil || e.done {
		return
	}
	e.steps++
	e.perform(e.m.Step(e.w.Now(), ev))
}

func (e *end) perform(a Actions) {
	if a.Found != nil {
		e.found, e.took = a.Found, e.w.Now().Sub(e.begun)
		e.close(a.Found.Socket)
	}
	for _, s := range a.Send {
		if e.echo != nil {
			e.echo(s)
		}
		e.sockets[s.Socket].Send(s.To, s.Bytes)
	}
	if a.Open > 0 {
		for range max(a.Open-e.deaf, 0) {
			e.sockets = append(e.sockets, e.host.Listen(0, nil))
			e.listen(len(e.sockets) - 1)
		}
		n := len(e.sockets) - 1
		e.w.After(2*time.Millisecond, func() { e.step(Opened{n}) })
	}
	if a.Failed != nil {
		e.err, e.took = a.Failed, e.w.Now().Sub(e.begun)
		e.close(0)
	}
	e.done = a.Done
	if e.timer != nil {
		e.timer.Stop()
	}
	if !a.Done {
		if !a.Next.After(e.w.Now()) {
			panic(fmt.Sprintf("tick due at once, step %d: %v", e.steps, a.Next.Sub(e.w.Now())))
		}
		e.timer = e.w.After(a.Next.Sub(e.w.Now()), func() { e.step(Tick{}) })
	}
}

// close closes all further sockets but one.
func (e *end) close(but int) {
	for i, s := range e.sockets {
		if i > 0 && i != but {
			s.Close()
		}
	}
}

// carries sends a datagram each way over what was found: it must come to the socket that the other found.
func (w *world) carries(t testing.TB) {
	t.Helper()
	for _, e := range w.ends {
		e.host.SetLink(memnet.Link{Latency: lineLatency})
		e.heardAt = -1
	}
	for _, e := range w.ends {
		e.sockets[e.found.Socket].Send(e.found.Remote, []byte("quic"))
	}
	w.RunFor(100 * time.Millisecond)
	for i, e := range w.ends {
		if e.heardAt != e.found.Socket {
			t.Errorf("end %d found socket %d and %v, and hears the other at %d", i, e.found.Socket, e.found.Remote, e.heardAt)
		}
	}
}
