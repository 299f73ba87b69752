package carrier

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

var laneNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// newLane is a Lane on a socket of its own.
func newLane(t testing.TB) *Lane {
	l := NewLane(listenUDP(t, "127.0.0.1:0", false))
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// short and long are datagrams with these headers to a connection.
func short(id []byte) []byte { return append(append([]byte{0x40}, id...), make([]byte, 40)...) }

func long(id []byte) []byte {
	b := append([]byte{0xc0, 0, 0, 0, 1, byte(len(id))}, id...)
	return append(b, make([]byte, 1200-len(b))...)
}

func deliver(l *Lane, now time.Time, from netip.AddrPort, b []byte) {
	m := Message{Addr: from, Buf: make([]byte, 1500)}
	m.N = copy(m.Buf, b)
	l.Deliver(now, &m)
}

func waiting(l *Lane) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func TestLaneLetsIn(t *testing.T) {
	known, stranger := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	other := newLane(t)
	foreign, err := other.ConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	l := newLane(t)
	ours, err := l.ConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 8)
	if !l.Admit(laneNow, known, laneNow.Add(time.Second)) {
		t.Fatal("no room")
	}
	for _, c := range []struct {
		what string
		from netip.AddrPort
		at   time.Duration
		b    []byte
		want bool
	}{
		{"a connection's start from an admitted address", known, 0, long(random), true},
		{"the same too late", known, time.Second, long(random), false},
		{"the same from another port", netip.AddrPortFrom(known.Addr(), 2), 0, long(random), false},
		{"a stranger's start", stranger, 0, long(random), false},
		{"a handshake of ours from anywhere", stranger, 0, long(ours[:]), true},
		{"another lane's", stranger, 0, long(foreign[:]), false},
		{"a packet of a connection of ours", stranger, time.Hour, short(ours[:]), true},
		{"one of another lane's", stranger, 0, short(foreign[:]), false},
		{"one of an admitted address without a connection", known, 0, short(random), false},
		{"a cut one", stranger, 0, short(ours[:])[:10], false},
		{"a cut start", stranger, 0, long(ours[:])[:12], false},
		{"one byte", stranger, 0, []byte{0xff}, false},
	} {
		before := waiting(l)
		deliver(l, laneNow.Add(c.at), c.from, c.b)
		if got := waiting(l) > before; got != c.want {
			t.Errorf("%s: let in: %t", c.what, got)
		}
	}
	if s := l.Stats(); s["stranger"] != 6 || s["unknown connection"] != 3 {
		t.Errorf("counted %v", s)
	}
}

func TestLaneCarries(t *testing.T) {
	l := newLane(t)
	id, err := l.ConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.1:1")
	b := make([]byte, 1452)
	for round := range 3 * laneQueue {
		want := short(id[:])
		want[20] = byte(round)
		deliver(l, laneNow, from, want)
		n, addr, err := l.ReadFrom(b)
		if err != nil || n != len(want) || b[20] != byte(round) || addr.(*net.UDPAddr).AddrPort() != from {
			t.Fatalf("round %d: %d bytes from %v, %v", round, n, addr, err)
		}
	}
	for range laneQueue + 7 {
		deliver(l, laneNow, from, short(id[:]))
	}
	if s := l.Stats(); s["overflow"] != 7 {
		t.Errorf("counted %v", s)
	}
	peer := listenUDP(t, "127.0.0.1:0", false)
	if _, err := l.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(peer.LocalAddr())); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, peer, 1)[0]; string(m.Buf[:m.N]) != "hello" || m.Addr != l.conn.LocalAddr() {
		t.Errorf("%q from %s came", m.Buf[:m.N], m.Addr)
	}
}

// readErr starts a read that has nothing to read.
func readErr(l *Lane) <-chan error {
	errs := make(chan error, 1)
	go func() {
		_, _, err := l.ReadFrom(make([]byte, 1500))
		errs <- err
	}()
	return errs
}

func TestLaneEnds(t *testing.T) {
	l := newLane(t)
	reading := readErr(l)
	_ = l.SetReadDeadline(time.Unix(1, 0))
	if err := <-reading; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past deadline: %v", err)
	}
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if err := <-readErr(l); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_ = l.SetReadDeadline(time.Time{})
	reading = readErr(l)
	_ = l.Close()
	if err := <-reading; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	deliver(l, laneNow, netip.MustParseAddrPort("192.0.2.1:1"), long(nil)) // must not panic
}

func TestLaneAdmitsSoMany(t *testing.T) {
	l := newLane(t)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 7700)
	}
	for i := range laneAdmitted {
		if !l.Admit(laneNow, at(i), laneNow.Add(time.Second)) {
			t.Fatalf("no room for number %d", i)
		}
	}
	if l.Admit(laneNow, at(laneAdmitted), laneNow.Add(time.Second)) {
		t.Error("room for one too many")
	}
	if !l.Admit(laneNow, at(3), laneNow.Add(2*time.Second)) {
		t.Error("one who is in was turned away")
	}
	if !l.Admit(laneNow.Add(time.Second), at(laneAdmitted), laneNow.Add(3*time.Second)) || len(l.admitted) != 2 {
		t.Errorf("%d are left when their time is up", len(l.admitted))
	}
}

// TestLaneStorm throws random bytes at a lane: nothing is let in, and nothing allocated.
func TestLaneStorm(t *testing.T) {
	l := newLane(t)
	rng := rand.NewChaCha8([32]byte{7})
	m := Message{Buf: make([]byte, 1500)}
	from := netip.MustParseAddrPort("192.0.2.66:6666")
	storm := func() {
		m.Addr, m.N = from, 1+int(rng.Uint64()%1452)
		_, _ = rng.Read(m.Buf[:m.N])
		m.Buf[0] |= 0x40
		l.Deliver(laneNow, &m)
	}
	const packets = 1_000_000
	if n := testing.AllocsPerRun(packets, storm); n > 0 {
		t.Errorf("%v allocations a stranger's packet", n)
	}
	s := l.Stats()
	if got := s["stranger"] + s["unknown connection"] + uint64(waiting(l)); got < packets {
		t.Errorf("%d of %d packets counted", got, packets)
	}
	if n := waiting(l); n > 1 { // one in 2^32 passes the check by chance
		t.Errorf("%d random packets let in", n)
	}
}

// TestLaneAllocatesNothing: neither a datagram in nor one out costs an allocation.
func TestLaneAllocatesNothing(t *testing.T) {
	l := newLane(t)
	peer := listenUDP(t, "127.0.0.1:0", false)
	to := net.UDPAddrFromAddrPort(peer.LocalAddr())
	id, err := l.ConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	packet, b := short(id[:]), make([]byte, 1500)
	m := Message{Addr: peer.LocalAddr(), Buf: make([]byte, 1500)}
	n := testing.AllocsPerRun(1000, func() {
		m.N = copy(m.Buf, packet)
		l.Deliver(laneNow, &m)
		_, _, _ = l.ReadFrom(b)
		_, _ = l.WriteTo(packet, to)
	})
	if n > 0 {
		t.Errorf("%v allocations a datagram", n)
	}
}
