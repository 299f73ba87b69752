package carrier

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eachBatcher runs a test on this platform's batcher and on the portable one.
func eachBatcher(t *testing.T, test func(t *testing.T, listen func(string) *UDP)) {
	for name, portable := range map[string]bool{"platform": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			test(t, func(addr string) *UDP { return listenUDP(t, addr, portable) })
		})
	}
}

// listenUDP opens a socket for one test or benchmark; an empty addr stands for both families.
func listenUDP(t testing.TB, addr string, portable bool) *UDP {
	t.Helper()
	var at netip.AddrPort
	if addr != "" {
		at = netip.MustParseAddrPort(addr)
	}
	u, err := ListenUDP(at)
	if err != nil {
		t.Fatal(err)
	}
	if portable {
		u.Segment(false) // what reads one by one has it never on
		u.io = &single{sock: u.sock, drops: u.drops}
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func buffers(n, size int) []Message {
	ms := make([]Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, size)
	}
	return ms
}

func datagrams(to netip.AddrPort, texts ...string) []Message {
	ms := make([]Message, len(texts))
	for i, text := range texts {
		ms[i] = Message{Addr: to, Buf: []byte(text), N: len(text)}
	}
	return ms
}

// receive reads exactly n datagrams.
func receive(t testing.TB, u *UDP, n int) []Message {
	t.Helper()
	var got []Message
	for len(got) < n {
		ms := buffers(n-len(got), 1500)
		k, err := u.ReadBatch(ms)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ms[:k]...)
	}
	return got
}

func TestDualStack(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		both := listen("")
		for _, host := range []string{"127.0.0.1", "::1"} {
			addr := netip.MustParseAddr(host)
			peer := listen(netip.AddrPortFrom(addr, 0).String())
			to := netip.AddrPortFrom(addr, both.LocalAddr().Port())
			if n, err := peer.WriteBatch(datagrams(to, "hello")); n != 1 || err != nil {
				t.Fatalf("write from %s: %d, %v", host, n, err)
			}
			got := receive(t, both, 1)[0]
			if got.Addr != peer.LocalAddr() || string(got.Buf[:got.N]) != "hello" {
				t.Fatalf("got %q from %v, want hello from %v", got.Buf[:got.N], got.Addr, peer.LocalAddr())
			}
			if n, err := both.WriteBatch(datagrams(got.Addr, "back")); n != 1 || err != nil {
				t.Fatalf("write to %s: %d, %v", host, n, err)
			}
			if back := receive(t, peer, 1)[0]; back.Addr != to {
				t.Fatalf("answer from %v, want %v", back.Addr, to)
			}
		}
	})
}

func TestIPv4MappedTarget(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		a, b := listen("127.0.0.1:0"), listen("127.0.0.1:0")
		mapped := netip.AddrPortFrom(netip.AddrFrom16(b.LocalAddr().Addr().As16()), b.LocalAddr().Port())
		if n, err := a.WriteBatch(datagrams(mapped, "x")); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if got := receive(t, b, 1)[0].Addr; got != a.LocalAddr() {
			t.Fatalf("from %v, want %v", got, a.LocalAddr())
		}
	})
}

func TestLongBatchKeepsOrder(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		a, b := listen("127.0.0.1:0"), listen("127.0.0.1:0")
		const count = 150
		texts := make([]string, count)
		for i := range texts {
			texts[i] = fmt.Sprint("datagram ", i)
		}
		if n, err := a.WriteBatch(datagrams(b.LocalAddr(), texts...)); n != count || err != nil {
			t.Fatal(n, err)
		}
		for i, m := range receive(t, b, count) {
			if string(m.Buf[:m.N]) != texts[i] {
				t.Fatalf("datagram %d is %q", i, m.Buf[:m.N])
			}
		}
	})
}

func TestOversizeDropped(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		a, b := listen("127.0.0.1:0"), listen("127.0.0.1:0")
		long := string(bytes.Repeat([]byte("x"), 101))
		if _, err := a.WriteBatch(datagrams(b.LocalAddr(), long, "one", long, "two", "")); err != nil {
			t.Fatal(err)
		}
		var got []string
		for len(got) < 3 {
			ms := buffers(8, 100)
			n, err := b.ReadBatch(ms)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms[:n] {
				got = append(got, string(m.Buf[:m.N]))
			}
			for i := range ms {
				if len(ms[i].Buf) != 100 {
					t.Fatal("a buffer was lost")
				}
			}
		}
		if fmt.Sprint(got) != "[one two ]" || b.Stats()["oversize"] != 2 {
			t.Fatalf("got %q, stats %v", got, b.Stats())
		}
	})
}

func TestUnsendableIsLostAlone(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		a, b := listen("127.0.0.1:0"), listen("127.0.0.1:0")
		ms := datagrams(b.LocalAddr(), "one", "two", "three", "four")
		ms[0].Addr = netip.MustParseAddrPort("[2001:db8::1]:1")
		ms[2].Addr = netip.AddrPort{}
		ms = append(ms, Message{Addr: b.LocalAddr(), Buf: make([]byte, 70_000), N: 70_000})
		ms = append(ms, datagrams(b.LocalAddr(), "five")...)
		if n, err := a.WriteBatch(ms); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		got := receive(t, b, 3)
		if s := string(got[0].Buf[:got[0].N]) + string(got[1].Buf[:got[1].N]) + string(got[2].Buf[:got[2].N]); s != "twofourfive" {
			t.Fatal(s)
		}
		if a.Stats()["unsendable"] != 3 {
			t.Fatal(a.Stats())
		}
	})
}

func TestCloseUnblocks(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		u := listen("127.0.0.1:0")
		const readers = 3
		result := make(chan error)
		for range readers {
			go func() {
				_, err := u.ReadBatch(buffers(4, 100))
				result <- err
			}()
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		for range readers {
			if err := <-result; !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
		}
		if err := u.Close(); err != nil {
			t.Fatal("second close:", err)
		}
		if _, err := u.WriteBatch(datagrams(u.LocalAddr(), "x")); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		a, b := listen(""), listen("")
		out := datagrams(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.LocalAddr().Port()), "one", "two", "three")
		in := buffers(8, 1500)
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := a.WriteBatch(out); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(out); {
				n, err := b.ReadBatch(in)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		})
		if allocs != 0 {
			t.Fatalf("%v allocations a round", allocs)
		}
	})
}

func TestEmptyBatches(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		u := listen("127.0.0.1:0")
		if n, err := u.ReadBatch(nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := u.WriteBatch(nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	})
}
