package link

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"culvert/protocol/rawtcp"
)

// Sealing and opening a record allocates nothing.
func TestRecordsAllocateNothing(t *testing.T) {
	_, k := testKeys(t)
	out, in := newTestDirection(t, k.toAcceptor, rekeyEvery), newTestDirection(t, k.toAcceptor, rekeyEvery)
	r, from := takeRoom(roomMost), new(bytes.Reader)
	lend := func(n int) []byte { return r.b }
	if n := testing.AllocsPerRun(100, func() {
		rec, err := out.seal(takeRoomAndGive(t), KindData, 1000)
		if err != nil {
			t.Fatal(err)
		}
		from.Reset(rec)
		if _, _, err := in.open(from, lend); err != nil {
			t.Fatal(err)
		}
	}); n != 0 && pooling {
		t.Errorf("%v allocations", n)
	}
}

// takeRoomAndGive is a room that is used and returned as a pump does.
func takeRoomAndGive(t *testing.T) []byte {
	t.Helper()
	r := roomFor(1000)
	defer r.give()
	return r.b
}

// tcpPair are the two ends of a local connection.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	return x.(*net.TCPConn), y.(*net.TCPConn)
}

// pumped joins a program and a device by a flow, as pumps do, one way.
func pumped(t testing.TB, own bool) (program, device *net.TCPConn) {
	t.Helper()
	far, device := tcpPair(t)
	r := ok(t, connect(t, func(ctx context.Context, f *Flow) {
		_ = f.Accept()
		_, _ = f.WriteTo(rawtcp.New(far))
	}, func(u, _ *Config) {
		u.PromoteAfter = -1
		if own {
			u.PromoteAfter = 1
		}
	}))
	program, near := tcpPair(t)
	f, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.ReadFrom(rawtcp.New(near))
	}()
	t.Cleanup(func() { near.Close(); <-done; f.Close() })
	if !own {
		return program, device
	}
	word := make([]byte, 10)
	for !f.switched() {
		if _, err := program.Write(word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(device, word); err != nil {
			t.Fatal(err)
		}
	}
	return program, device
}

// allocations is how many it costs to send so much from one to the other, of which the test's own part is taken off.
func allocations(t *testing.T, program, device *net.TCPConn, size int) float64 {
	t.Helper()
	count := func(from, to *rawtcp.Conn) float64 {
		b := make([]byte, size)
		each := func() {
			sent := make(chan error, 1)
			go func() {
				_, err := from.Write(b)
				sent <- err
			}()
			if _, err := io.ReadFull(to, b); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			each()
		}
		return testing.AllocsPerRun(100, each)
	}
	all := count(rawtcp.New(program), rawtcp.New(device))
	a, b := tcpPair(t)
	return all - count(rawtcp.New(a), rawtcp.New(b))
}

// Bytes that go from socket to socket allocate nothing on their way, neither on the link nor in the flow's own connection. The
// one exception is not ours: crypto/tls allocates 24 bytes for each record that it reads.
func TestPumpsAllocateNothing(t *testing.T) {
	for _, size := range []int{64, 300 << 10} {
		program, device := pumped(t, true)
		if n := allocations(t, program, device, size); n > 0 && pooling {
			t.Errorf("own connection, %d bytes: %v allocations", size, n)
		}
		records := float64(size/maxData + 1)
		program, device = pumped(t, false)
		if n := allocations(t, program, device, size); n > records && pooling {
			t.Errorf("link, %d bytes: %v allocations for %v records", size, n, records)
		}
	}
}

// A direction takes as much at once as comes, from little to much and back, as long as it leaves at once.
func TestRoomGrowsAndShrinks(t *testing.T) {
	o := &outgoing{size: 1, least: 1}
	full := func() int { return len(o.Lend()) }
	for _, want := range []int{16 << 10, 64 << 10, 64 << 10} {
		if got := full(); got != want {
			t.Errorf("%d on a link, want %d", got, want)
		}
		o.sent(full(), roomLink, 0)
	}
	o.sent(full(), roomMost, 0)
	if got := full(); got != recordSent {
		t.Errorf("%d in the flow's own connection", got)
	}
	o.sent(full(), roomMost, slowRecord)
	if got := full(); got != recordSent {
		t.Errorf("%d after one that went just in time", got)
	}
	o.sent(full(), roomMost, slowRecord+1)
	o.sent(full(), roomMost, slowRecord+1)
	o.sent(full(), roomMost, slowRecord+1)
	if got := full(); got != 16<<10 {
		t.Errorf("%d on a slow path", got)
	}
	o.sent(full(), roomMost, quickRecord)
	if got := full(); got != 16<<10 {
		t.Errorf("%d on a path that is not quick", got)
	}
	o.sent(full(), roomMost, 0)
	o.sent(1, roomMost, 0)
	if got := full(); got != 16<<10 {
		t.Errorf("%d for little", got)
	}
}
