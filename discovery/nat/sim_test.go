package nat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
)

var start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// pcg makes a seeded rand.ChaCha8 into a reader.
func reader(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	return rand.NewChaCha8(b)
}

// server is a super-node: STUN and reach probes on one port.
type server struct {
	Server
	main, other *memnet.Socket
	mapped      func(netip.AddrPort) netip.AddrPort // what a liar says; nil for an honest one
	mute        bool                                // says that it has sent a probe, and has not
	accomplice  *memnet.Socket                      // from which a liar has its probes sent
}

// world is a site that measures and servers on the open internet.
type world struct {
	*memnet.Net
	t       *testing.T
	seed    uint64
	host    *memnet.Host
	main    *memnet.Socket
	own     []netip.Addr
	servers []*server
	hop     Event
	extern  []netip.Addr

	machine Machine
	sockets map[int]*memnet.Socket
	asking  map[[16]byte]int
	timer   *memnet.Timer
	done    bool
	sent    map[netip.Addr]int // datagrams of the machine's by where to
}

const question = 0x5a // first byte of what stands for an authenticated message

func newWorld(t *testing.T, seed uint64, servers int, behind func(n *memnet.Net) (*memnet.NAT, []netip.Addr)) *world {
	w := &world{Net: memnet.New(seed, start), t: t, seed: seed, sockets: make(map[int]*memnet.Socket),
		asking: make(map[[16]byte]int), sent: make(map[netip.Addr]int)}
	nat, own := behind(w.Net)
	w.own = own
	w.host = w.Host(nat, own...)
	w.main = w.host.Listen(7700, nil)
	w.main.OnReceive(w.receive(0))
	w.sockets[0] = w.main
	for i := range servers {
		w.addServer(i)
	}
	return w
}

func (w *world) addServer(i int) {
	h := w.Host(nil, netip.AddrFrom4([4]byte{198, 51, byte(100 + i), 1}), ip(fmt.Sprintf("2001:db8:%d::1", i+1)))
	h.SetLink(memnet.Link{Latency: 15 * time.Millisecond})
	s := &server{main: h.Listen(7700, nil), other: h.Listen(0, nil)}
	s.ID[35] = byte(i + 1)
	s.V4 = s.main.Addr()
	s.V6 = netip.AddrPortFrom(ip(fmt.Sprintf("2001:db8:%d::1", i+1)), 7700)
	s.main.OnReceive(func(_ time.Time, from netip.AddrPort, b []byte) { s.receive(w.t, from, b) })
	w.servers = append(w.servers, s)
}

func (s *server) receive(t *testing.T, from netip.AddrPort, b []byte) {
	if len(b) > 18 && b[0] == question {
		nonce := [16]byte(b[1:])
		to, err := netip.ParseAddrPort(string(bytes.TrimSpace(b[18:])))
		if err != nil || to.Addr() != from.Addr() {
			return
		}
		out := s.main
		if b[17] == 1 {
			out = s.other
		}
		if s.accomplice != nil {
			out = s.accomplice
		}
		if !s.mute {
			out.Send(to, protocol.AppendReachProbe(nil, nonce))
		}
		s.main.Send(from, b[:17]) // "sent"
		return
	}
	seen := from
	if s.mapped != nil {
		seen = s.mapped(from)
	}
	a, err := Responder{Origin4: s.V4, Origin6: s.V6}.Answer(b, seen)
	if err != nil {
		return
	}
	if len(a) > len(b) {
		t.Errorf("%d bytes answered by %d", len(b), len(a))
	}
	s.main.Send(from, a)
}

// receive tells the machine, or ends a question.
func (w *world) receive(socket int) memnet.Receive {
	return func(now time.Time, from netip.AddrPort, b []byte) {
		if socket == 0 && len(b) == 17 && b[0] == question {
			if id, ok := w.asking[[16]byte(b[1:])]; ok {
				delete(w.asking, [16]byte(b[1:]))
				w.step(Event{Kind: Asked, Ask: id, Sent: true})
			}
			return
		}
		w.step(Event{Kind: Received, Socket: socket, From: from, Data: b})
	}
}

func (w *world) step(e Event) {
	if w.done {
		return
	}
	for _, a := range w.machine.Step(w.Now(), e) {
		w.do(a)
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	if next := w.machine.Next(); !next.IsZero() && !w.done {
		if !next.After(w.Now()) {
			w.t.Fatalf("seed %d: at %v something is due at %v", w.seed, w.Now().Sub(start), next.Sub(start))
		}
		w.timer = w.After(next.Sub(w.Now()), func() { w.step(Event{}) })
	}
}

func (w *world) do(a Action) {
	switch a.Kind {
	case ActionOpen:
		s := w.host.Listen(0, nil)
		s.OnReceive(w.receive(a.Socket))
		w.sockets[a.Socket] = s
		w.After(0, func() { w.step(Event{Kind: Opened, Socket: a.Socket, Port: s.Port()}) })
	case ActionSend:
		w.sent[a.To.Addr()]++
		w.sockets[a.Socket].Send(a.To, a.Data)
	case ActionAsk:
		w.ask(a, 0)
	case ActionHop:
		e := w.hop
		e.Kind = HopSeen
		w.After(50*time.Millisecond, func() { w.step(e) })
	case ActionClose:
		w.sockets[a.Socket].Close()
		delete(w.sockets, a.Socket)
	case ActionDone:
		w.done = true
	}
}

// ask is a call: sent again until it is answered or given up.
func (w *world) ask(a Action, tries int) {
	if tries == 0 {
		w.asking[a.Nonce] = a.Ask
	} else if _, open := w.asking[a.Nonce]; !open {
		return
	}
	if tries == 5 {
		delete(w.asking, a.Nonce)
		w.step(Event{Kind: Asked, Ask: a.Ask})
		return
	}
	b := append([]byte{question}, a.Nonce[:]...)
	other := byte(0)
	if a.Other {
		other = 1
	}
	w.main.Send(a.To, fmt.Appendf(append(b, other), "%-60s", a.Addr))
	w.After(250*time.Millisecond, func() { w.ask(a, tries+1) })
}

func (w *world) config() Config {
	c := Config{Own: w.own, Port: 7700, External: w.extern, Hops: w.hop.Reached || w.hop.Hop.IsValid(), Rand: reader(w.seed)}
	for _, s := range w.servers {
		c.Servers = append(c.Servers, s.Server)
	}
	return c
}

// measure runs a whole measurement.
func (w *world) measure() Report {
	w.t.Helper()
	m := NewMeasure(w.config())
	w.machine = m
	began := w.Now()
	w.step(Event{})
	for !w.done && w.Step() {
	}
	if took := w.Now().Sub(began); !w.done || took > MeasureTime {
		w.t.Errorf("seed %d: done %v after %v", w.seed, w.done, took)
	}
	if len(w.sockets) != 1 {
		w.t.Errorf("seed %d: %d sockets are left", w.seed, len(w.sockets)-1)
	}
	return m.Report()
}

// home is a NAT with one host behind it.
func home(cfg memnet.NATConfig, loss float64) func(*memnet.Net) (*memnet.NAT, []netip.Addr) {
	return func(n *memnet.Net) (*memnet.NAT, []netip.Addr) {
		cfg.Link = memnet.Link{Latency: 5 * time.Millisecond, Jitter: 3 * time.Millisecond, Loss: loss}
		return n.NAT(cfg, nil, ip("203.0.113.7")), []netip.Addr{ip("192.168.1.2")}
	}
}
