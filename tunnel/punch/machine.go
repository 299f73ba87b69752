package punch

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

// Setup is what a Machine starts from.
type Setup struct {
	End       *protocol.PunchEnd
	Requester bool
	Mine      protocol.Punch // this side's hint
	Peer      Side           // all of the other side; a requester that waits for an answer: what is announced of it
	Waits     bool           // Peer is not all: an Answer will come
	Local     bool           // the two share a location: private addresses may be sent to
	Loopback  bool           // loopback addresses too
	Seed      [32]byte       // of all randomness, secret
}

// Machine decides one attempt. It is for one goroutine.
type Machine struct {
	Setup
	reach  reach
	start  time.Time
	secret [32]byte // of the serials
	rand   *rand.Rand

	met     time.Time // when all of the peer became known; zero: not yet
	plan    plan
	targets []netip.AddrPort
	paths   []*path
	plainAt time.Time

	hole    netip.AddrPort // hard: where all sockets send to
	asked   int            // hard: sockets asked for
	sockets int            // hard: sockets there are, numbered from 1
	holeAt  time.Time
	holed   int       // hard: sockets of this turn that have sent
	turn    time.Time // hard: when this turn began
	probes  *probes   // easy, mutual

	proven   time.Time // when a path was proven first
	chosen   *path
	chosenAt time.Time // when it was chosen; at the tunnel-node: when that was last heard
	chooseAt time.Time // requester: when to say so again
	found    bool
	over     bool

	answers int // that may still be sent at once
	refill  time.Time
	stats   Stats
	out     Actions
}

// Stats counts what a machine has sent and refused.
type Stats struct {
	Sent    int
	Probes  int // of them to ports nobody announced
	Heard   int // valid packets
	Invalid int // packets of another key, or no punch packets
	Crowded int // valid ones from one path too many
}

// Event is what has happened: Tick, Packet, Answer or Opened.
type Event interface{ event() }

// Tick says that time has passed.
type Tick struct{}

// Packet has come to a socket.
type Packet struct {
	Socket int
	From   netip.AddrPort
	Bytes  []byte
}

// Answer is the tunnel-node's part.
type Answer struct{ Peer Side }

// Opened says how many further sockets there are now, all told; fewer than wanted is all there will be.
type Opened struct{ Sockets int }

func (Tick) event()   {}
func (Packet) event() {}
func (Answer) event() {}
func (Opened) event() {}

// Actions is what the loop must do: in the order of the fields.
type Actions struct {
	Found  *Found // at most once: close all further sockets but this one's
	Send   []Send
	Open   int       // open so many further sockets, numbered on from the last, and say Opened
	Failed error     // no path was found: close all
	Done   bool      // nothing will be done any more
	Next   time.Time // when Tick is due
}

// Found is the path that was agreed on.
type Found struct {
	Socket int // 0: the main one
	Remote netip.AddrPort
	RTT    time.Duration // 0: not measured
}

// Send is one datagram.
type Send struct {
	Socket int
	To     netip.AddrPort
	Bytes  []byte
}

// New starts an attempt; the first Step sends the first packets.
func New(now time.Time, s Setup) *Machine {
	m := &Machine{Setup: s, reach: reach{s.Local, s.Loopback}, start: now, plainAt: now, answers: answersAtOnce, refill: now}
	source := rand.NewChaCha8(s.Seed)
	source.Read(m.secret[:])
	m.rand = rand.New(source)
	m.targets = m.reach.targets(s.Peer)
	return m
}

// Stats is what was counted so far.
func (m *Machine) Stats() Stats { return m.stats }

// Step takes what has happened and says what to do.
func (m *Machine) Step(now time.Time, e Event) Actions {
	m.out = Actions{}
	if m.over {
		return Actions{Done: true}
	}
	if m.met.IsZero() && !m.Waits {
		m.meet(now, m.Peer)
	}
	switch e := e.(type) {
	case Answer:
		if m.met.IsZero() {
			m.meet(now, e.Peer)
		}
	case Opened:
		m.sockets, m.holeAt = max(m.sockets, min(e.Sockets, m.asked)), now
	case Packet:
		if !m.over {
			m.receive(now, e)
		}
	}
	if !m.over {
		m.advance(now)
	}
	m.out.Done = m.over
	if !m.over {
		m.out.Next = m.next(now)
	}
	return m.out
}

// meet: all of the peer is known.
func (m *Machine) meet(now time.Time, peer Side) {
	m.met = now
	if !peer.Punch.Wanted {
		m.fail(ErrUnwanted)
		return
	}
	for _, a := range m.targets { // what was tried already stays, behind what was said now
		if l := m.reach.targets(peer); !slices.Contains(l, a) && len(l) < mostTargets {
			peer.Candidates = append(slices.Clip(peer.Candidates), protocol.Candidate{
				Kind: protocol.CandidateHost, Protocol: protocol.UDP, Addr: protocol.AddrOf(a)})
		}
	}
	m.targets = m.reach.targets(peer)
	m.plan = planFor(m.Mine.Mapping, peer.Punch.Mapping)
	at := m.reach.outside(peer)
	switch {
	case m.plan.role == hopeless:
		m.targets = slices.DeleteFunc(m.targets, translated)
		if len(m.targets) == 0 && len(m.paths) == 0 {
			m.fail(ErrBothHard)
		}
	case m.plan.role == equal:
	case !at.IsValid():
		m.plan = plan{role: equal}
	case m.plan.role == hard:
		m.hole = at
	default:
		m.probes = &probes{at: at, step: stride(peer.Punch.Step), foreseen: m.plan.foreseen, first: 1, rand: m.rand}
		if m.plan.role == mutual {
			// Each of this side's own flows takes a port, so the n-th one meets the peer's n-th.
			own := slices.DeleteFunc(slices.Clone(m.targets), func(a netip.AddrPort) bool { return !translated(a) })
			m.probes.only, m.probes.first = true, 1+len(own)
		}
		m.probes.next = now.Add(m.plan.after)
	}
}

// translated reports whether NATs stand before such an address.
func translated(a netip.AddrPort) bool { return a.Addr().Is4() && !private(a.Addr()) }

// receive takes a packet of the peer, answers it, and follows what it says.
func (m *Machine) receive(now time.Time, e Packet) {
	p, err := m.End.Parse(e.Bytes)
	if err != nil || !m.reach.unicast(e.From) || e.Socket < 0 || e.Socket > m.asked {
		m.stats.Invalid++
		return
	}
	way := m.hear(now, e.Socket, e.From)
	if way == nil {
		m.stats.Crowded++
		return
	}
	m.stats.Heard++
	way.serial = p.Serial
	ago, echoed := m.age(now, p.Echo, e.Socket, e.From)
	if echoed {
		way.proven = now
		if m.proven.IsZero() {
			m.proven = now
		}
		if !p.Ask && (way.rtt == 0 || ago < way.rtt) {
			way.rtt = max(ago, serialTick)
		}
	}
	switch {
	case m.Requester && p.Chosen:
		if way == m.chosen && echoed {
			m.end(now)
		}
	case p.Chosen && echoed && (m.chosen == nil || m.chosen == way):
		if m.chosen == nil {
			m.chosen = way
			m.end(now)
		}
		m.chosenAt = now
		m.answer(now, way, true)
	case p.Ask && !m.found:
		m.answer(now, way, false)
	}
}

// end: both sides know the path. The tunnel-node lingers, to confirm again what may have been lost.
func (m *Machine) end(now time.Time) {
	m.found, m.over = true, m.Requester
	m.out.Found = &Found{m.chosen.socket, m.chosen.remote, m.chosen.rtt}
}

func (m *Machine) fail(why error) { m.over, m.out.Failed = true, why }

// answer sends at once, as far as answers are left.
func (m *Machine) answer(now time.Time, p *path, chosen bool) {
	if earned := int(now.Sub(m.refill) * answersPerSecond / time.Second); earned > 0 {
		m.answers, m.refill = min(m.answers+earned, answersAtOnce), now
	}
	if m.answers > 0 {
		m.answers--
		m.send(now, p.socket, p.remote, false, chosen)
	}
}

func (m *Machine) send(now time.Time, socket int, to netip.AddrPort, ask, chosen bool) {
	p := protocol.PunchPacket{Serial: m.serial(now, socket, to), Ask: ask, Chosen: chosen}
	if way := m.find(socket, to); way != nil {
		p.Echo = way.serial
	}
	m.stats.Sent++
	m.out.Send = append(m.out.Send, Send{socket, to, m.End.Append(make([]byte, 0, protocol.PunchSize), p)})
}
