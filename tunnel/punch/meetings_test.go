package punch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

// node is a real socket on loopback with its meetings and a read loop.
type node struct {
	udp   *net.UDPConn
	all   *Meetings
	other chan string         // what came and is no punch packet
	drop  func(b []byte) bool // of what comes
	mute  bool                // the main socket's packets are lost
	loop  sync.WaitGroup
}

func (n *node) Send(to netip.AddrPort, b []byte) error {
	if n.mute {
		return nil
	}
	_, err := n.udp.WriteToUDPAddrPort(b, to)
	return err
}

func newNode(t *testing.T, change func(*node)) *node {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	n := &node{udp: udp, other: make(chan string, 100)}
	n.all = NewMeetings(n)
	if change != nil {
		change(n)
	}
	n.loop.Go(func() {
		var buf [1500]byte
		for {
			k, from, err := udp.ReadFromUDPAddrPort(buf[:])
			switch {
			case err != nil:
				return
			case n.drop != nil && n.drop(buf[:k]):
			case buf[0] == protocol.TypePunch:
				n.all.Deliver(from, buf[:k])
			default:
				n.other <- string(buf[:k])
			}
		}
	})
	t.Cleanup(func() {
		n.all.Close()
		_ = udp.Close()
		n.loop.Wait()
	})
	return n
}

func (n *node) side(mapping protocol.Mapping) Side {
	a := protocol.AddrOf(n.udp.LocalAddr().(*net.UDPAddr).AddrPort())
	return Side{
		Candidates: []protocol.Candidate{{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: a, Priority: 1}},
		Punch:      protocol.Punch{Wanted: true, Mapping: mapping, Step: 1},
	}
}

func meeting(token byte, asks bool, mine, peer Side) Meeting {
	id := func(b byte) protocol.ID { return protocol.NewID(7, protocol.Hash{b}) }
	return Meeting{Token: protocol.Hash{token}, Requester: id(1), TunnelNode: id(2), Asks: asks,
		Mine: mine.Punch, Peer: peer, Loopback: true}
}

// nowhere is a side at which nobody is.
func nowhere(mapping protocol.Mapping) Side {
	a := protocol.AddrOf(netip.MustParseAddrPort("127.0.0.2:9"))
	return Side{
		Candidates: []protocol.Candidate{{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: a}},
		Punch:      protocol.Punch{Wanted: true, Mapping: mapping, Step: 1},
	}
}

type met struct {
	path Path
	err  error
}

// both runs the two ends until they have met; the tunnel-node's answer reaches the requester after it has begun. Where the
// machine stands still for a second or two, a meeting is rightly given up, and another one takes place.
func both(t *testing.T, u, n *node, uSide, nSide Side) (a, b Path, tries byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tries = 1; ; tries++ {
		x, y := once(ctx, u, n, uSide, nSide, tries)
		if x.err == nil && y.err == nil {
			a, b = x.path, y.path
			break
		}
		for _, m := range []met{x, y} {
			if m.path.Conn != nil {
				_ = m.path.Conn.Close()
			}
		}
		if ctx.Err() != nil || tries == 100 {
			t.Fatalf("%v, %v", x.err, y.err)
		}
	}
	for _, p := range []Path{a, b} {
		if p.Took <= 0 || p.Packets == 0 || p.Main == (p.Conn != nil) {
			t.Errorf("%+v", p)
		}
	}
	return a, b, tries
}

func once(ctx context.Context, u, n *node, uSide, nSide Side, token byte) (a, b met) {
	answer := make(chan Side, 1)
	first := meeting(token, true, uSide, Side{})
	first.Answer = answer
	var wg sync.WaitGroup
	wg.Go(func() { a.path, a.err = u.all.Meet(ctx, first) })
	wg.Go(func() {
		answer <- nSide
		b.path, b.err = n.all.Meet(ctx, meeting(token, false, nSide, uSide))
	})
	wg.Wait()
	return a, b
}

func TestMeetOverMainSockets(t *testing.T) {
	u, n := newNode(t, nil), newNode(t, nil)
	uSide, nSide := u.side(protocol.MappingIndependent), n.side(protocol.MappingIndependent)
	p, q, tries := both(t, u, n, uSide, nSide)
	if !p.Main || !q.Main || p.Remote != nSide.Candidates[0].Addr.AddrPort || q.Remote != uSide.Candidates[0].Addr.AddrPort {
		t.Fatalf("%+v, %+v", p, q)
	}
	// It may have sent more than that, as it goes on confirming for a moment.
	if c := u.all.Counters(); c.Found == 0 || c.Found+c.Failed != int64(tries) || c.Sent < int64(p.Packets) {
		t.Errorf("%+v of %+v at the %d. try", c, p, tries)
	}
}

// exchange sends one datagram each way over a path of which one end is a further socket.
func exchange(t *testing.T, hard Path, easy *node, easyPath Path) {
	t.Helper()
	_ = hard.Conn.SetReadDeadline(time.Now().Add(patience))
	must(t, easy.Send(easyPath.Remote, []byte("to the hard side")))
	var buf [100]byte
	k, from, err := hard.Conn.ReadFrom(buf[:])
	must(t, err)
	if string(buf[:k]) != "to the hard side" || from.String() != hard.Remote.String() {
		t.Errorf("%q from %v, want from %v", buf[:k], from, hard.Remote)
	}
	_, err = hard.Conn.WriteTo([]byte("to the easy side"), from)
	must(t, err)
	if got := <-easy.other; got != "to the easy side" {
		t.Errorf("%q", got)
	}
}

// A hard requester keeps the one socket that hears.
func TestHardRequester(t *testing.T) {
	u, n := newNode(t, func(n *node) { n.mute = true }), newNode(t, nil)
	p, q, _ := both(t, u, n, nowhere(protocol.MappingRandom), n.side(protocol.MappingIndependent))
	if p.Main || !q.Main {
		t.Fatalf("%+v, %+v", p, q)
	}
	defer p.Conn.Close()
	exchange(t, p, n, q)
	u.all.Close()
	if u.all.sockets != mostSockets || len(u.all.live) != 0 {
		t.Errorf("%d of %d sockets free, %d live", u.all.sockets, mostSockets, len(u.all.live))
	}
}

// A hard tunnel-node confirms again while its caller already reads from the socket.
func TestHardTunnelNodeConfirmsAgain(t *testing.T) {
	var confirmed atomic.Int32
	u := newNode(t, func(n *node) {
		n.drop = func(b []byte) bool { // the first three confirmations
			return len(b) == protocol.PunchSize && b[2]&2 != 0 && confirmed.Add(1) <= 3
		}
	})
	n := newNode(t, func(n *node) { n.mute = true })
	uSide, nSide := u.side(protocol.MappingIndependent), nowhere(protocol.MappingSequential)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	meet := func(token byte) error {
		confirmed.Store(0)
		result := make(chan met, 1)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { p, err := u.all.Meet(ctx, meeting(token, true, uSide, nSide)); result <- met{p, err} })
		q, err := n.all.Meet(ctx, meeting(token, false, nSide, uSide))
		if err != nil {
			<-result
			return err
		}
		if q.Main {
			t.Fatalf("%+v", q)
		}
		defer q.Conn.Close()
		heard := make(chan string, 1)
		_ = q.Conn.SetReadDeadline(time.Now().Add(patience))
		wg.Go(func() {
			var buf [100]byte
			k, _, _ := q.Conn.ReadFrom(buf[:])
			heard <- string(buf[:k])
		})
		r := <-result
		if r.err != nil {
			_ = q.Conn.SetReadDeadline(time.Unix(1, 0))
			return r.err
		}
		must(t, u.Send(r.path.Remote, []byte("quic")))
		if got := <-heard; got != "quic" {
			t.Errorf("%q", got)
		}
		if n := confirmed.Load(); n <= 3 {
			t.Errorf("%d confirmations seen, three of them lost", n)
		}
		return nil
	}
	for token := byte(1); ; token++ { // where the machine stands still for a second or two, a meeting is rightly given up
		err := meet(token)
		if err == nil {
			return
		}
		if ctx.Err() != nil || token == 100 {
			t.Fatal(err)
		}
	}
}

// lonely is a meeting to which nobody comes, for some seconds.
func lonely(token byte) Meeting {
	return meeting(token, false, nowhere(protocol.MappingRandom), nowhere(protocol.MappingIndependent))
}

func TestMeetEndsWithItsContext(t *testing.T) {
	n := newNode(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	opened := make(chan struct{})
	go func() { _, err := n.all.Meet(ctx, lonely(1)); done <- err }()
	go func() { // until the hard side has its sockets
		defer close(opened)
		for free := mostSockets; free == mostSockets && ctx.Err() == nil; {
			n.all.mu.Lock()
			free = n.all.sockets
			n.all.mu.Unlock()
		}
	}()
	select {
	case <-opened:
	case <-time.After(patience):
		t.Error("no sockets opened")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-opened
	n.all.Close()
	if n.all.sockets != mostSockets {
		t.Errorf("%d of %d sockets free", n.all.sockets, mostSockets)
	}
}

func TestMeetingsLimits(t *testing.T) {
	for {
		began := time.Now()
		wrong := limits(t)
		if time.Since(began) > plainTime {
			continue // the first of the meetings may have been over before the last began
		}
		if wrong != nil {
			t.Error(wrong)
		}
		return
	}
}

// limits says what is wrong with the limits of as many meetings as there may be.
func limits(t *testing.T) error {
	n := newNode(t, nil)
	n.all.sockets = 0 // nobody gets any
	var wrong []error
	errs := make(chan error, mostMeetings)
	var wg sync.WaitGroup
	for i := range mostMeetings {
		w := lonely(byte(i + 1))
		end, err := protocol.NewPunchEnd(w.Token, w.Requester, w.TunnelNode, w.Asks)
		must(t, err)
		wg.Go(func() { _, err := n.all.Meet(t.Context(), w); errs <- err })
		for live := false; !live; { // Meet has put it on the list
			n.all.mu.Lock()
			live = n.all.live[end.Pair()] != nil || len(errs) > 0
			n.all.mu.Unlock()
		}
	}
	if _, err := n.all.Meet(t.Context(), lonely(1)); !errors.Is(err, ErrTwice) {
		wrong = append(wrong, fmt.Errorf("the same again: %w", err))
	}
	if _, err := n.all.Meet(t.Context(), lonely(200)); !errors.Is(err, ErrBusy) {
		wrong = append(wrong, fmt.Errorf("one too many: %w", err))
	}
	n.all.Close()
	wg.Wait()
	for range mostMeetings {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			wrong = append(wrong, err)
		}
	}
	if _, err := n.all.Meet(t.Context(), lonely(1)); !errors.Is(err, ErrClosed) {
		wrong = append(wrong, fmt.Errorf("after the end: %w", err))
	}
	return errors.Join(wrong...)
}

func TestNoSocketsToBeHad(t *testing.T) {
	t.Parallel() // it waits for seconds
	n := newNode(t, nil)
	n.all.sockets = 0
	closed := make(chan Side)
	close(closed)
	w := lonely(1)
	w.Answer = closed
	if p, err := n.all.Meet(t.Context(), w); !errors.Is(err, ErrNoAnswer) || p.Took <= 0 {
		t.Errorf("no answer: %v", err)
	}
	if p, err := n.all.Meet(t.Context(), lonely(2)); !errors.Is(err, ErrSockets) || p.Took < plainTime || p.Packets == 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

// stuck is a main socket that takes a packet only when told to.
type stuck chan struct{}

func (s stuck) Send(netip.AddrPort, []byte) error { <-s; return nil }

func TestDeliverBoundsAndCounts(t *testing.T) {
	main := make(stuck)
	all := NewMeetings(main)
	w := lonely(1)
	peer, err := protocol.NewPunchEnd(w.Token, w.Requester, w.TunnelNode, true)
	must(t, err)
	from := netip.MustParseAddrPort("127.0.0.1:7")
	packet := peer.Append(nil, protocol.PunchPacket{Serial: 1, Ask: true})
	if all.Deliver(from, packet) || all.Deliver(from, nil) || all.Deliver(from, packet[:43]) {
		t.Error("taken for no meeting")
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := all.Meet(ctx, w); done <- err }()
	main <- struct{}{} // it runs, and hangs in the next packet or waits for it
	bad := append([]byte(nil), packet...)
	bad[43]++
	for !all.Deliver(from, bad) {
	}
	for range 10 * mostWaiting {
		all.Deliver(from, packet)
	}
	cancel()
	close(main)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	all.Close()
	if c := all.Counters(); c.Dropped < 8*mostWaiting || c.Unknown < 3 || c.Failed != 1 {
		t.Errorf("%+v", c)
	}
}

func TestNodeSendsNoMoreThanItsLimit(t *testing.T) {
	t.Parallel() // it waits for seconds
	n := newNode(t, func(n *node) { n.mute = true })
	n.all.limit.SetBurst(10)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			w := meeting(byte(i), false, nowhere(protocol.MappingIndependent), nowhere(protocol.MappingRandom))
			if _, err := n.all.Meet(t.Context(), w); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := n.all.Counters()
	if most := 10 + int64(time.Since(begun).Seconds()*packetsPerSecond) + 1; c.Sent > most || c.Limited == 0 {
		t.Errorf("%+v, at most %d may be sent", c, most)
	}
	t.Logf("%+v", c)
}
