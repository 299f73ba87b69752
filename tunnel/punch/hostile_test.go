package punch

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
)

// TestReplayDoesNotSteer: a stranger by the way records every packet, and sends it again at once from an address of his own, to
// both ends and sooner than the true one comes. He gets answers, and is not chosen: not where he only repeats what the two
// send each other, and not where he also hands on what they send to him, as long as an address that was announced works.
func TestReplayDoesNotSteer(t *testing.T) {
	for _, c := range []struct {
		a, b    kind
		handsOn bool
	}{
		{fullCone, fullCone, false}, {fullCone, fullCone, true}, {open, fullCone, true},
		{random, fullCone, false}, {open, random, false}, {open, sequential, false},
	} {
		for seed := range uint64(20) {
			w := newWorld(seed)
			w.site(0, c.a, nil, 0)
			w.site(1, c.b, nil, 0)
			thief := w.Host(nil, addr("198.51.100.66")).Listen(666, nil)
			answered := 0
			thief.OnReceive(func(_ time.Time, _ netip.AddrPort, b []byte) {
				answered++
				if len(b) > protocol.PunchSize {
					t.Errorf("answer of %d bytes", len(b))
				}
			})
			for _, e := range w.ends {
				e.echo = func(s Send) {
					if !c.handsOn && s.To == thief.Addr() {
						return
					}
					for _, to := range w.ends {
						for _, c := range to.side.Candidates {
							thief.Send(c.Addr.AddrPort, s.Bytes)
						}
					}
				}
			}
			name := c.a.name + " × " + c.b.name
			w.met(t, name, seed)
			for i, e := range w.ends {
				if e.found != nil && e.found.Remote.Addr() == thief.Addr().Addr() {
					t.Errorf("%s, hands on: %v, seed %d: end %d found the thief", name, c.handsOn, seed, i)
				}
			}
			if answered == 0 {
				t.Error("the thief was not heard: the test shows nothing")
			}
		}
	}
}

// TestForgedSourceProvesNothing: a peer that knows all keys but is not at the address it claims cannot have it chosen.
func TestForgedSourceProvesNothing(t *testing.T) {
	victim := netip.MustParseAddrPort("203.0.113.200:53")
	wanted := protocol.Punch{Wanted: true, Mapping: protocol.MappingIndependent}
	peer := punchEnd(t, false)
	m := New(epoch, Setup{End: punchEnd(t, true), Requester: true, Mine: wanted, Peer: Side{Punch: wanted}})
	now, a, sent := epoch, m.Step(epoch, Tick{}), 0
	guess := rand.New(rand.NewPCG(1, 2))
	for !a.Done {
		// It knows the clock's part of every serial, and guesses the rest.
		echo := uint64(now.Sub(epoch)/serialTick)<<serialTagBits | guess.Uint64()&serialTagMask
		a = m.Step(now, Packet{From: victim, Bytes: peer.Append(nil, protocol.PunchPacket{Serial: 1, Echo: echo, Ask: true, Chosen: true})})
		sent += len(a.Send)
		now = now.Add(time.Millisecond)
	}
	if a.Found != nil || a.Failed == nil {
		t.Fatalf("%+v", a)
	}
	if limit := answersAtOnce + int(plainTime.Seconds()*(answersPerSecond+float64(time.Second/plainEvery)+1)); sent > limit {
		t.Errorf("%d packets to a victim, at most %d allowed", sent, limit)
	}
}

// TestEchoBelongsToOnePath: an echo counts on the path that its serial was sent over, for three seconds.
func TestEchoBelongsToOnePath(t *testing.T) {
	m := New(epoch, Setup{End: punchEnd(t, true)})
	to, other := netip.MustParseAddrPort("203.0.113.1:7"), netip.MustParseAddrPort("203.0.113.1:8")
	sent := epoch.Add(time.Second)
	s := m.serial(sent, 3, to)
	for _, c := range []struct {
		after  time.Duration
		socket int
		from   netip.AddrPort
		want   bool
	}{
		{20 * time.Millisecond, 3, to, true}, {echoLife, 3, to, true}, {echoLife + time.Millisecond, 3, to, false},
		{20 * time.Millisecond, 2, to, false}, {20 * time.Millisecond, 3, other, false}, {-time.Millisecond, 3, to, false},
	} {
		if age, ok := m.age(sent.Add(c.after), s, c.socket, c.from); ok != c.want || ok && age != c.after {
			t.Errorf("%+v: %v, %v", c, age, ok)
		}
	}
	if _, ok := m.age(sent, s^1, 3, to); ok {
		t.Error("another serial counts")
	}
}

// TestCrowd: a peer with a thousand sockets makes this side remember and answer a bounded part.
func TestCrowd(t *testing.T) {
	wanted := protocol.Punch{Wanted: true, Mapping: protocol.MappingIndependent}
	peer := punchEnd(t, true)
	m := New(epoch, Setup{End: punchEnd(t, false), Mine: wanted, Peer: Side{Punch: wanted}})
	sent, now := 0, epoch
	for i := range 1000 {
		from := netip.AddrPortFrom(addr("203.0.113.9"), uint16(2000+i))
		sent += len(m.Step(now, Packet{From: from, Bytes: peer.Append(nil, protocol.PunchPacket{Serial: 1, Ask: true})}).Send)
		now = now.Add(time.Millisecond)
	}
	if len(m.paths) > mostPaths || m.Stats().Crowded < 900 || sent > mostPaths*22 {
		t.Errorf("%d paths, %d packets, %+v", len(m.paths), sent, m.Stats())
	}
}

// TestBudget counts what a hopeful but hopeless meeting sends: the sides look for each other as a firewall would see it.
func TestBudget(t *testing.T) {
	for _, k := range []kind{random, sequential} {
		w := newWorld(1)
		e := w.site(0, portRestricted, nil, 0)
		h := w.site(1, k, nil, 0)
		w.Split([]memnet.Node{e.host}) // nothing arrives
		ports := make(map[netip.AddrPort]int)
		perTick := make(map[int64]int)
		e.echo = func(s Send) {
			ports[s.To]++
			perTick[w.Now().Sub(epoch).Milliseconds()/100]++
		}
		first := make(map[int]time.Time)
		h.echo = func(s Send) {
			if _, ok := first[s.Socket]; !ok {
				first[s.Socket] = w.Now()
			}
			if s.Socket > 0 && s.To != w.ends[0].side.Candidates[1].Addr.AddrPort {
				t.Errorf("socket %d sends to %v", s.Socket, s.To)
			}
		}
		w.failed(t, k.name, 1, ErrNotFound, 7*time.Second)
		st := e.m.Stats()
		t.Logf("%s: easy side %+v over %d addresses, hard side %+v over %d sockets", k.name, st, len(ports), h.m.Stats(), len(first))
		want := mostProbes
		if k.mapping == protocol.MappingSequential {
			want -= (aheadRounds - 1) * aheadPorts // the same ones again
		}
		if st.Probes != mostProbes || len(ports) < want || len(ports) > want+mostTargets {
			t.Errorf("%d probes to %d addresses", st.Probes, len(ports))
		}
		for at, n := range perTick {
			if n > 60 {
				t.Errorf("%d packets within 100 ms (%d)", n, at)
			}
		}
		if len(first) != 1+wideSockets {
			t.Errorf("%d sockets have sent", len(first))
		}
		if span := first[wideSockets].Sub(first[fewSockets+1]); span < 230*time.Millisecond || span > 300*time.Millisecond {
			t.Errorf("the sockets opened their ports within %v", span)
		}
	}
}

// FuzzMachine gives a machine whatever may come, in any order: it never panics, asks for a tick that lies behind, sends too
// much at once, or goes on after its end.
func FuzzMachine(f *testing.F) {
	f.Add(uint64(1), []byte{0, 10, 1, 20, 2, 5, 3, 200, 4, 1, 0, 255})
	f.Add(uint64(6), []byte{2, 5, 1, 0, 3, 255, 0, 50, 1, 9, 5, 1, 6, 1, 7, 9})
	f.Fuzz(func(t *testing.T, setup uint64, script []byte) {
		requester := setup&1 == 0
		mapping := func(n uint64) protocol.Punch {
			return protocol.Punch{Wanted: n&8 == 0, Mapping: protocol.Mapping(n & 7), Step: uint16(n)}
		}
		at := func(b byte) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, b >> 4}), uint16(b&15)*1000)
		}
		peer := Side{Punch: mapping(setup >> 1), Candidates: []protocol.Candidate{
			{Kind: protocol.CandidateKind(setup >> 8 & 3), Protocol: protocol.UDP, Addr: protocol.AddrOf(at(byte(setup >> 16)))}}}
		m := New(epoch, Setup{End: punchEnd(t, requester), Requester: requester, Mine: mapping(setup >> 4),
			Waits: setup&(1<<40) != 0, Peer: peer, Local: setup&(1<<41) != 0})
		other := punchEnd(t, !requester)
		now, sockets, echo, done, sent := epoch, 0, uint64(0), false, 0
		for i := 0; i+1 < len(script); i += 2 {
			b := script[i+1]
			var e Event = Tick{}
			switch script[i] % 8 {
			case 0:
				now = now.Add(time.Duration(b) * 5 * time.Millisecond)
			case 1:
				e = Answer{peer}
			case 2, 3:
				p := protocol.PunchPacket{Serial: uint64(b), Echo: echo, Ask: b&1 != 0, Chosen: b&2 != 0}
				e = Packet{int(b>>2) % (sockets + 2), at(b), other.Append(nil, p)}
			case 4:
				e = Packet{0, at(b), script[i:]}
			case 5:
				e = Opened{int(b) - 3}
			}
			a := m.Step(now, e)
			if done && (len(a.Send) > 0 || a.Found != nil || a.Failed != nil || !a.Done) {
				t.Fatalf("after the end: %+v", a)
			}
			done = a.Done
			if !done && !a.Next.After(now) {
				t.Fatalf("tick due %v ago", now.Sub(a.Next))
			}
			if len(a.Send) > mostTargets+mostPaths+2*mostBurst {
				t.Fatalf("%d packets in one step", len(a.Send))
			}
			sockets += a.Open
			for _, s := range a.Send {
				sent++
				if s.Socket < 0 || s.Socket > sockets {
					t.Fatalf("socket %d of %d", s.Socket, sockets)
				}
				echo = binary.BigEndian.Uint64(s.Bytes[12:])
			}
		}
		if sockets > wideSockets || m.Stats().Sent != sent {
			t.Errorf("%d sockets, %d packets, %+v", sockets, sent, m.Stats())
		}
	})
}
