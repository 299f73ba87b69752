package carrier

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// platform is the batcher of this system, which a test of it needs.
func platform(t testing.TB, u *UDP) *mmsg {
	t.Helper()
	m, ok := u.io.(*mmsg)
	if !ok {
		t.Fatal("this system has no batches")
	}
	return m
}

// pattern is n bytes that tell where a datagram begins and ends.
func pattern(i, n int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, n)
	if n > 1 {
		b[0], b[n-1] = byte(i>>8), ^byte(i)
	}
	return b
}

// Whatever lengths and addresses come in a row, every datagram arrives as it was sent, between batchers of both kinds.
func TestSegmentsKeepDatagrams(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, portable := range [][2]bool{{false, false}, {false, true}, {true, false}} {
		w := listenUDP(t, "127.0.0.1:0", portable[0])
		readers := []*UDP{listenUDP(t, "127.0.0.1:0", portable[1]), listenUDP(t, "127.0.0.1:0", portable[1])}
		for round := range 60 {
			var ms []Message
			want := make([][][]byte, len(readers))
			size, to := 0, 0
			for i := range 1 + rng.IntN(150) {
				if rng.IntN(4) == 0 || i == 0 {
					size = []int{0, 1, 2, 60, 200, 1200, joinedSize, joinedSize + 1, 1400}[rng.IntN(9)]
				}
				if rng.IntN(8) == 0 {
					to = rng.IntN(len(readers))
				}
				b := pattern(round*200+i, size)
				ms = append(ms, Message{Addr: readers[to].LocalAddr(), Buf: b, N: len(b)})
				want[to] = append(want[to], b)
			}
			if n, err := w.WriteBatch(ms); n != len(ms) || err != nil {
				t.Fatal(n, err)
			}
			for k, r := range readers {
				for i := 0; i < len(want[k]); {
					in := buffers(1+rng.IntN(70), 1500)
					n, err := r.ReadBatch(in)
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range in[:n] {
						if !bytes.Equal(m.Buf[:m.N], want[k][i]) || m.Addr != w.LocalAddr() {
							t.Fatalf("portable %v, round %d: datagram %d of reader %d has %d bytes from %v, want %d", portable, round, i, k, m.N, m.Addr, len(want[k][i]))
						}
						i++
					}
				}
			}
		}
	}
}

func TestSegmentsAreJoined(t *testing.T) {
	w, r := listenUDP(t, "127.0.0.1:0", false), listenUDP(t, "127.0.0.1:0", false)
	other := listenUDP(t, "127.0.0.1:0", false)
	m := platform(t, w)
	if !m.join.on || platform(t, r).gather == nil {
		t.Fatal("this kernel does not segment: nothing is tested")
	}
	a, b := r.LocalAddr(), other.LocalAddr()
	for _, c := range []struct {
		name  string
		to    []netip.AddrPort
		sizes []int
		want  int
	}{
		{"equal", []netip.AddrPort{a, a, a, a}, []int{60, 60, 60, 60}, 1},
		{"last shorter", []netip.AddrPort{a, a, a, a}, []int{60, 60, 60, 9}, 1},
		{"nothing after a shorter one", []netip.AddrPort{a, a, a, a}, []int{60, 60, 9, 9}, 2},
		{"longer", []netip.AddrPort{a, a}, []int{60, 61}, 2},
		{"other address", []netip.AddrPort{a, b, a}, []int{60, 60, 60}, 3},
		{"empty", []netip.AddrPort{a, a, a}, []int{60, 0, 60}, 3},
		{"too long for a segment", []netip.AddrPort{a, a}, []int{joinedSize + 1, joinedSize + 1}, 2},
		{"refused address between", []netip.AddrPort{a, {}, a}, []int{60, 60, 60}, 1},
	} {
		var ms []Message
		for i, to := range c.to {
			ms = append(ms, Message{Addr: to, Buf: pattern(i, c.sizes[i]), N: c.sizes[i]})
		}
		if _, err := w.WriteBatch(ms); err != nil {
			t.Fatal(err)
		}
		if m.out.end != c.want {
			t.Errorf("%s: %d pieces, want %d", c.name, m.out.end, c.want)
		}
	}
	var many []Message
	for i := range batchSize {
		many = append(many, Message{Addr: a, Buf: pattern(i, 1200), N: 1200})
	}
	if n, err := w.WriteBatch(many); n != batchSize || err != nil || m.out.end != 2 {
		t.Errorf("%d of 64 KB and more in %d pieces: %v", n, m.out.end, err)
	}
	w.Segment(false)
	if _, err := w.WriteBatch(many); err != nil || m.out.end != batchSize {
		t.Errorf("switched off: %d pieces, %v", m.out.end, err)
	}
}

// A device may refuse what the socket promised.
func TestSegmentsRefused(t *testing.T) {
	for _, c := range []struct {
		errno  syscall.Errno
		pieces int // until it is given up; two a batch
	}{{unix.EIO, 2}, {unix.EINVAL, joinedRefusals}} {
		w, r := listenUDP(t, "127.0.0.1:0", false), listenUDP(t, "127.0.0.1:0", false)
		m := platform(t, w)
		call, refusals := m.out.call, 0
		m.out.call = func(fd uintptr) bool {
			if m.join.count(m.out.off) > 1 {
				refusals++
				m.out.n, m.out.errno = -1, c.errno
				return true
			}
			end := m.out.end
			m.out.end = m.out.off + 1 // what follows may be joined
			defer func() { m.out.end = end }()
			return call(fd)
		}
		for round := range 12 {
			ms := datagrams(r.LocalAddr(), "one", "two", "six", "seven", "four", "five")
			if n, err := w.WriteBatch(ms); n != len(ms) || err != nil {
				t.Fatal(n, err)
			}
			got := ""
			for _, m := range receive(t, r, len(ms)) {
				got += string(m.Buf[:m.N]) + " "
			}
			if got != "one two six seven four five " {
				t.Fatalf("%v, round %d: %s", c.errno, round, got)
			}
		}
		if refusals != c.pieces || m.join.on || w.Stats()["unsendable"] != 0 {
			t.Errorf("%v: given up after %d refusals, want %d; on: %v; %v", c.errno, refusals, c.pieces, m.join.on, w.Stats())
		}
	}
}

// What is lost in a piece is lost alone, and one refusal does not end it.
func TestPartOfPieceRefused(t *testing.T) {
	w, r := listenUDP(t, "127.0.0.1:0", false), listenUDP(t, "127.0.0.1:0", false)
	m := platform(t, w)
	call, calls := m.out.call, 0
	m.out.call = func(fd uintptr) bool {
		if calls++; calls == 1 || calls == 3 {
			m.out.n, m.out.errno = -1, unix.EINVAL
			return true
		}
		return call(fd)
	}
	if n, err := w.WriteBatch(datagrams(r.LocalAddr(), "one", "two", "six")); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if got := receive(t, r, 2); string(got[0].Buf[:3]) != "one" || string(got[1].Buf[:3]) != "six" || !m.join.on {
		t.Errorf("%q and %q, on: %v", got[0].Buf[:3], got[1].Buf[:3], m.join.on)
	}
	if n, err := w.WriteBatch(datagrams(r.LocalAddr(), "one", "two", "six")); n != 3 || err != nil || m.join.refusals != 0 {
		t.Fatal(n, err, m.join.refusals)
	}
	receive(t, r, 3)
}

func TestOversizeInPieces(t *testing.T) {
	w, r := listenUDP(t, "127.0.0.1:0", false), listenUDP(t, "127.0.0.1:0", false)
	var ms []Message
	for i := range 10 {
		ms = append(ms, Message{Addr: r.LocalAddr(), Buf: pattern(i, 101), N: 101})
	}
	ms = append(ms, datagrams(r.LocalAddr(), "shorter", "x")...)
	if _, err := w.WriteBatch(ms); err != nil {
		t.Fatal(err)
	}
	in := buffers(64, 100)
	var got []string
	for len(got) < 2 {
		n, err := r.ReadBatch(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range in[:n] {
			got = append(got, string(m.Buf[:m.N]))
		}
	}
	if fmt.Sprint(got) != "[shorter x]" || r.Stats()["oversize"] != 10 {
		t.Errorf("%q, %v", got, r.Stats())
	}
}

// QUIC's datagrams come through pieces as they were sent, also where messages came between them and buffers change hands.
func TestLaneBehindPieces(t *testing.T) {
	w, r := listenUDP(t, "127.0.0.1:0", false), listenUDP(t, "127.0.0.1:0", false)
	l := NewLane(r)
	defer l.Close()
	id, err := l.ConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	var ms []Message
	var want [][]byte
	for i := range 60 {
		b := append([]byte{0x40}, id[:]...)
		b = append(b, pattern(i, 1189)...)
		if i%7 == 3 {
			b = append([]byte{5}, b[1:]...) // a message of ours
		} else {
			want = append(want, b)
		}
		ms = append(ms, Message{Addr: r.LocalAddr(), Buf: b, N: len(b)})
	}
	if n, err := w.WriteBatch(ms); n != len(ms) || err != nil || platform(t, w).out.end == len(ms) {
		t.Fatal(n, err, "nothing was joined")
	}
	in := buffers(16, 1500)
	for got := 0; got < len(ms); {
		n, err := r.ReadBatch(in)
		if err != nil {
			t.Fatal(err)
		}
		for i := range in[:n] {
			if Classify(in[i].Buf[0]) == QUIC {
				l.Deliver(laneNow, &in[i])
			}
		}
		got += n
	}
	b := make([]byte, 1500)
	for i := range want {
		n, _, err := l.ReadFrom(b)
		if err != nil || !bytes.Equal(b[:n], want[i]) {
			t.Fatalf("datagram %d for QUIC: %d bytes, %v", i, n, err)
		}
	}
}

// FuzzGather hands out pieces of any lengths, as if the kernel had read them.
func FuzzGather(f *testing.F) {
	f.Add(uint32(600), int32(200), byte(3))
	f.Add(uint32(0), int32(0), byte(1))
	f.Add(uint32(1<<31), int32(-1), byte(200))
	v := newVector(unix.SYS_RECVMMSG)
	var g gather
	g.aim(v)
	f.Fuzz(func(t *testing.T, length uint32, size int32, room byte) {
		n, _ := v.names[0].encode(unix.AF_INET6, netip.MustParseAddrPort("[2001:db8::1]:7700"))
		h := &v.hdrs[0]
		h.hdr.Namelen, h.hdr.Flags, h.len = n, 0, length
		v.ctrls[0].put(&h.hdr, 0)
		head := v.ctrls[0][:]
		copy(head[12:], []byte{unix.UDP_GRO, 0, 0, 0}) // of struct cmsghdr the type
		copy(head[unix.CmsgLen(0):], []byte{byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)})
		h.hdr.SetControllen(unix.CmsgLen(4))
		g.take(1)
		ms, drops := buffers(1+int(room), 1500), new(udpDrops)
		bytes, datagrams := 0, 0
		for k := g.hand(v, ms, drops); k > 0; k = g.hand(v, ms, drops) {
			for _, m := range ms[:k] {
				bytes += m.N
			}
			datagrams += k
		}
		total := min(int(length), gatherSize)
		if lost := int(drops.oversize.Load()); lost == 0 && bytes != total || bytes > total || datagrams+lost > total+1 {
			t.Errorf("%d bytes in %d datagrams of %d, %d dropped", bytes, datagrams, total, lost)
		}
	})
}
