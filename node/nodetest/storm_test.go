package nodetest

import (
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"culvert/protocol"
)

// `make storm` sends a million.
var stormSize = flag.Int("storm", 100_000, "how many mutated datagrams TestStorm sends")

// A live super-node is sent mutated datagrams of every type. No reply is longer than what it answers, nothing panics, and
// memory and goroutines are afterwards what they were before. Not parallel: it counts what the whole process has.
func TestStorm(t *testing.T) {
	total := *stormSize
	m := newMesh(t, "acme", "other")
	super := m.super("super", "acme")
	s := newStorm(t, m, super)
	s.run(max(total/10, 10_000)) // until every table that strangers can fill has its size
	goroutines, heap := footprint()
	s.reset()
	began := time.Now()
	s.run(total)
	took := time.Since(began)
	var g int
	var h uint64
	eventually(t, "memory and goroutines are what they were", func() bool {
		g, h = footprint()
		return g <= goroutines+8 && h <= heap+1<<20 // what a node does by itself now and then comes and goes
	})

	t.Logf("%d mutated datagrams of %d recorded ones in %s (%.0f/s): %d looked at, %d lost in the socket's queue; %d replies by type %v, %d bytes for %d; goroutines %d → %d, heap %d → %d KiB",
		s.sent, len(s.recorded), took.Round(time.Millisecond), float64(s.sent)/took.Seconds(), s.taken, s.sent-s.taken,
		s.replies, s.types, s.replyBytes, s.sentBytes, goroutines, g, heap>>10, h>>10)
	t.Logf("dropped: %v", super.node.Stats()["messages"])
	if s.taken < total*99/100 {
		t.Errorf("only %d of %d were looked at", s.taken, total)
	}
	// It goes on serving, the old session and a newcomer.
	for _, p := range []*probe{s.fence, m.probe("acme", true)} {
		if _, err := p.call(t.Context(), s.to, protocol.Ping{}, patience); err != nil {
			t.Error(err)
		}
	}
}

// footprint is what the process has once nothing is left to collect.
func footprint() (goroutines int, heap uint64) {
	for range 3 {
		runtime.GC()
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return runtime.NumGoroutine(), ms.HeapAlloc
}

type storm struct {
	t        *testing.T
	m        *mesh
	super    *agent
	to       protocol.Peer
	rand     *mrand.Rand
	recorded [][]byte
	fence    *probe // whose socket is the storm's: what it asks is answered after all that was sent before

	asked map[[17]byte]int // what a reply must echo → the length of the datagrams of this round that have it

	sent, taken, replies  int
	types                 map[byte]int
	sentBytes, replyBytes int
}

func newStorm(t *testing.T, m *mesh, super *agent) *storm {
	s := &storm{t: t, m: m, super: super, to: super.peer(), rand: mrand.New(mrand.NewPCG(2, 7)), asked: make(map[[17]byte]int), types: make(map[byte]int)}
	s.fence = m.probe("acme", true)
	s.record()
	_, err := s.fence.call(t.Context(), s.to, protocol.Ping{}, patience)
	noError(t, err)
	s.fence.seen = func(_ netip.AddrPort, b []byte) { s.reply(b) }
	return s
}

func (s *storm) reset() {
	s.sent, s.taken, s.replies, s.sentBytes, s.replyBytes = 0, 0, 0, 0, 0
	s.types = make(map[byte]int)
}

// record collects valid datagrams of all types, in both directions, all of which the node has received once if they were for
// it: what is sent again is a replay.
func (s *storm) record() {
	t := s.t
	keep := func(_ netip.AddrPort, b []byte) { s.recorded = append(s.recorded, slices.Clone(b)) }
	signed, sealed := s.m.probe("acme", false), s.m.probe("acme", true)
	stranger := s.m.probe("other", false)
	for _, p := range []*probe{signed, sealed, stranger} {
		p.seen, p.sent = keep, keep
		raw := must[[]byte](t)(p.info(1, protocol.NodeInfoValue{Name: "x", Locations: []protocol.Hash{{1}}}))
		inner := p.signed(time.Now(), s.to, protocol.TunnelRequest{Device: p.id, Port: 9100, Protocol: protocol.TCP})
		for _, q := range []protocol.Payload{
			protocol.Ping{}, protocol.GetNode{ID: p.id}, protocol.GetOperatorNodes{}, protocol.GetSuperNodes{}, protocol.GetNodeInfo{ID: p.id},
			protocol.GetTunnelNodes{Location: p.id}, protocol.GetEndDevices{Key: p.id}, protocol.GetRevocations{},
			protocol.Put{Key: p.id, Record: raw}, protocol.ForwardedTunnelRequest{Target: p.id, Request: inner, Node: p.record},
		} {
			_, err := p.call(t.Context(), s.to, q, patience)
			noError(t, err)
		}
		// What gets no answer.
		for _, q := range []protocol.Payload{
			protocol.SubmitSuperNode{}, protocol.TunnelRequest{Device: p.id, Port: 9100, Protocol: protocol.TCP},
			protocol.ForwardedTunnelOpened{Answer: inner, Cookie: make([]byte, 72), Node: p.record},
			protocol.RelayJoin{Peer: p.id, Node: p.record}, protocol.Digest{}, protocol.Repair{}, protocol.TransferPartition{}, protocol.Busy{},
		} {
			b := p.signed(time.Now(), s.to, q)
			p.write(s.to, b)
			keep(netip.AddrPort{}, b)
		}
		// Two that leave together, and in a session in one datagram.
		_, err := p.ep.Call(time.Now(), p.id, s.to, protocol.CmdPing, nil, patience, &p.out)
		noError(t, err)
		_, err = p.call(t.Context(), s.to, protocol.Ping{}, patience)
		noError(t, err)
		p.seen, p.sent = nil, nil
	}
	hint := protocol.AppendHint(nil, 77, 1)
	env := must[protocol.Envelope](t)(protocol.ParseEnvelope(signed.signed(time.Now(), s.to, protocol.Ping{})))
	cookie := must[[]byte](t)(protocol.NewCookieJar(rand.Reader).AppendCookie(nil, time.Now(), s.to.Addr, &env, s.to.Signing))
	s.recorded = append(s.recorded, hint, cookie)
	types := make(map[byte]int)
	for _, b := range s.recorded {
		types[b[0]]++
	}
	for _, want := range []byte{protocol.TypeSigned, protocol.TypeSealed, protocol.TypeCookie, protocol.TypeHint, protocol.TypeBundle} {
		if types[want] == 0 {
			t.Fatalf("recorded types: %v", types)
		}
	}
}

// mutate changes a recorded datagram so that it is none any more, or leaves it as a replay.
func (s *storm) mutate(b []byte) []byte {
	r := s.rand
	pick := func() []byte { return s.recorded[r.IntN(len(s.recorded))] }
	b = append(b[:0], pick()...)
	fit := false // with an outer code that fits, so that it gets further in
	switch r.IntN(10) {
	case 0: // replay
	case 1: // truncation
		b = b[:r.IntN(len(b)+1)]
	case 2: // extension
		b = append(b, make([]byte, r.IntN(400))...)
	case 3: // splice
		o := pick()
		i := r.IntN(len(b) + 1)
		b = append(b[:i], o[min(r.IntN(len(o)+1), len(o)):]...)
	case 4: // another command, type, version or flag
		b[r.IntN(min(4, len(b)))] = byte(r.IntN(48))
	case 5: // noise
		for i := range b[min(len(b), 1+r.IntN(len(b))):] {
			b[i] = byte(r.Uint32())
		}
	case 6: // another time, from which a stale message may be
		if len(b) >= 84 {
			binary.BigEndian.PutUint64(b[76:], uint64(time.Now().UnixMilli())+r.Uint64N(1<<20)-1<<19)
		}
		fit = true
	case 7: // another message ID or sender
		if len(b) >= 92 {
			binary.BigEndian.PutUint64(b[40+4*r.IntN(12):], r.Uint64())
		}
		fit = true
	default: // bit flips
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		fit = r.IntN(2) == 0
	}
	if fit && len(b) >= protocol.MinSigned && b[0] == protocol.TypeSigned {
		b = remac(b, s.to.ID)
	}
	return b
}

// echo is what a reply to b repeats of it: type and message ID, or index and counter.
func echoOf(b []byte, reply bool) (k [17]byte, ok bool) {
	if len(b) < 20 {
		return k, false
	}
	switch b[0] {
	case protocol.TypeSigned:
		if len(b) < 92 {
			return k, false
		}
		k[0] = protocol.TypeSigned
		copy(k[1:], b[84:92])
	case protocol.TypeCookie: // answers a signed message
		if !reply {
			return k, false
		}
		k[0] = protocol.TypeSigned
		copy(k[1:], b[4:12])
	case protocol.TypeSealed, protocol.TypeBundle:
		k[0] = protocol.TypeSealed
		copy(k[1:], b[4:20])
	case protocol.TypeHint:
		if !reply {
			return k, false
		}
		k[0] = protocol.TypeSealed
		copy(k[1:], b[4:20])
	}
	return k, true
}

// next is a mutant whose reply, if there is one, can be told from those to others of its round.
func (s *storm) next(b []byte) []byte {
	for {
		if b = s.mutate(b); len(b) == 0 {
			continue
		}
		k, ok := echoOf(b, false)
		if have, again := s.asked[k]; again && have != len(b) {
			continue
		}
		if ok {
			s.asked[k] = len(b)
		}
		return b
	}
}

// run sends n, in rounds that fit the socket's queue; a fence behind each round shows that it has been looked at.
func (s *storm) run(n int) {
	s.t.Helper()
	const round = 48
	b := make([]byte, 0, 4096)
	for left := n; left > 0; {
		clear(s.asked)
		before, sentBefore := s.looked(), s.sent
		for range min(left, round) {
			b = s.next(b)
			if _, err := s.fence.conn.WriteToUDPAddrPort(b, s.to.Addr); err != nil {
				s.t.Fatal(err)
			}
			s.sent++
			s.sentBytes += len(b)
		}
		left -= s.sent - sentBefore
		if _, err := s.fence.call(s.t.Context(), s.to, protocol.Ping{}, patience); err != nil {
			s.t.Fatalf("after %d datagrams: %v", s.sent, err)
		}
		s.taken += min(int(s.looked()-before), s.sent-sentBefore)
	}
}

// looked is how many datagrams the node has judged: in the storm nothing is accepted, so all of them are drops.
func (s *storm) looked() (sum uint64) {
	st := s.super.node.Stats()
	for _, part := range []string{"messages", "quic"} {
		for _, k := range st[part] {
			sum += k
		}
	}
	return sum + st["dispatch"]["not ours"] + st["udp"]["oversize"]
}

func (s *storm) reply(b []byte) {
	s.t.Helper()
	if b[0] == protocol.TypeSealed || b[0] == protocol.TypeBundle {
		return // to the fence, whose session is the only one here: one answer, or two where it has asked again
	}
	s.replies++
	s.types[b[0]]++
	s.replyBytes += len(b)
	k, ok := echoOf(b, true)
	asked, known := s.asked[k]
	if !ok || !known {
		s.t.Fatalf("a reply of type %d to nothing that was sent: %x", b[0], b)
	}
	if len(b) > asked {
		s.t.Fatalf("%s", fmt.Sprintf("a reply of %d bytes to %d: %x", len(b), asked, b))
	}
}
