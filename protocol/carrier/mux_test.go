package carrier

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol"
)

// patientTimes end no stream because the machine is slow.
func patientTimes() streamTimes {
	return streamTimes{
		dial: patience, keepAlive: 20 * time.Second, deaf: time.Hour, unused: time.Hour, prove: time.Hour, idle: time.Hour, stall: time.Hour,
	}
}

// served is a Mux that serves streams at a loopback port.
type served struct {
	*Mux
	web  *Web
	addr string
}

func newServed(t testing.TB, cfg MuxConfig, times func(*streamTimes)) *served {
	t.Helper()
	s := &served{Mux: NewMux(listenUDP(t, "127.0.0.1:0", false), cfg)}
	s.times = patientTimes()
	if times != nil {
		times(&s.times)
	}
	s.web = patientWeb(Services{ServiceMessages: func(c ByteConn) { _ = s.Serve(c) }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.web.ServeTLS(l.(*net.TCPListener)); err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	t.Cleanup(func() {
		_ = s.Mux.Close()
		_ = s.web.Close()
	})
	return s
}

// open opens a bare stream to it.
func (s *served) open(t testing.TB) ByteConn {
	t.Helper()
	c, err := (&Dialer{timeout: patience}).Open(t.Context(), Way{Class{Form: TLS}, s.addr}, ServiceMessages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// client is a Mux whose datagrams to peer go by stream to s while UDP is blocked.
func client(t testing.TB, s *served, peer netip.AddrPort, dial func(context.Context) (net.Conn, error)) *Mux {
	t.Helper()
	m := NewMux(listenUDP(t, "127.0.0.1:0", false), MuxConfig{
		Offers: func(to netip.AddrPort) bool { return to == peer },
		Dial:   func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { return dial(ctx) },
	})
	m.times = patientTimes()
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func (s *served) byTLS(ctx context.Context) (net.Conn, error) {
	return (&Dialer{timeout: patience}).Open(ctx, Way{Class{Form: TLS}, s.addr}, ServiceMessages)
}

func send(t testing.TB, c Conn, to netip.AddrPort, texts ...string) {
	t.Helper()
	if _, err := c.WriteBatch(datagrams(to, texts...)); err != nil {
		t.Fatal(err)
	}
}

func readStream(t testing.TB, m *Mux) Message {
	t.Helper()
	ms := make([]Message, 1)
	if _, err := m.ReadStreams(ms); err != nil {
		t.Fatal(err)
	}
	return ms[0]
}

func text(m Message) string { return string(m.Buf[:m.N]) }

// until waits for a counter.
func until(t testing.TB, m *Mux, name string, holds func(n uint64) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !holds(m.Stats()[name]); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: %d", name, m.Stats()[name])
		}
	}
}

func atLeast(k uint64) func(uint64) bool { return func(n uint64) bool { return n >= k } }

func TestFrameGolden(t *testing.T) {
	b, err := AppendFrame(nil, []byte{0x04, 0xaa})
	if err != nil || !bytes.Equal(b, []byte{0, 2, 0x04, 0xaa}) {
		t.Errorf("% x, %v", b, err)
	}
	if b, err = AppendFrame(b, nil); err != nil || !bytes.Equal(b, []byte{0, 2, 0x04, 0xaa, 0, 0}) {
		t.Errorf("% x, %v", b, err)
	}
	for n := 1; n < 4; n++ {
		if _, err := ReadFrame(bufio.NewReader(bytes.NewReader(b[:n]))); err == nil {
			t.Errorf("%d bytes are a frame", n)
		}
	}
	if _, err := AppendFrame(nil, make([]byte, protocol.MaxDatagram+1)); !errors.Is(err, ErrFrame) {
		t.Errorf("a long one is laid out: %v", err)
	}
	if _, err := ReadFrame(bufio.NewReader(bytes.NewReader([]byte{0x04, 0xb1, 0}))); !errors.Is(err, ErrFrame) {
		t.Errorf("a long one is read: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2, 0, 0})
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			d, err := ReadFrame(r)
			if err != nil {
				break
			}
			if again, err = AppendFrame(again, d); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatal("does not come back")
		}
	})
}

// TestStreamStandsForUDP: the same addresses above, whether by UDP or by stream, and back.
func TestStreamStandsForUDP(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	peer := s.LocalAddr()
	c := client(t, s, peer, s.byTLS)
	send(t, c, peer, "by UDP")
	in := buffers(1, 1500)
	if _, err := s.ReadBatch(in); err != nil || text(in[0]) != "by UDP" || in[0].Addr != c.LocalAddr() {
		t.Fatalf("%q from %s, %v", text(in[0]), in[0].Addr, err)
	}
	c.Block(true)
	send(t, c, peer, "by stream")
	got := readStream(t, s.Mux)
	if text(got) != "by stream" || !OnStream(got.Addr) || protocol.AddrOf(got.Addr).Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Fatalf("%q from %s", text(got), got.Addr)
	}
	send(t, s.Mux, got.Addr, "answer", "another")
	for _, want := range []string{"answer", "another"} {
		if back := readStream(t, c); text(back) != want || back.Addr != peer {
			t.Fatalf("%q from %s", text(back), back.Addr)
		}
	}
	send(t, c, ByUDP(peer), "by UDP all the same")
	if _, err := s.ReadBatch(in); err != nil || text(in[0]) != "by UDP all the same" {
		t.Fatal(text(in[0]), err)
	}
	c.Block(false)
	send(t, c, peer, "by UDP again")
	if _, err := s.ReadBatch(in); err != nil || text(in[0]) != "by UDP again" {
		t.Fatal(text(in[0]), err)
	}
	c.CloseDetours()
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 0 })
	send(t, s.Mux, got.Addr, "too late")
	if n := s.Stats()["stream has ended"]; n != 1 {
		t.Errorf("%d datagrams for a stream that has ended", n)
	}
}

// TestMixedBatch: what is for streams is taken out of a batch, and nothing for a web port goes by UDP.
func TestMixedBatch(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	c := client(t, s, netip.MustParseAddrPort("192.0.2.1:7700"), s.byTLS)
	c.Block(true)
	other := listenUDP(t, "127.0.0.1:0", false)
	ms := datagrams(other.LocalAddr(), "one", "-", "two", "-", "three", "four")
	ms[1].Addr = netip.MustParseAddrPort("192.0.2.1:7700")
	ms[3].Addr = netip.MustParseAddrPort("127.0.0.1:443")
	if n, err := c.WriteBatch(ms); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	for i, m := range receive(t, other, 4) {
		if want := []string{"one", "two", "three", "four"}[i]; text(m) != want {
			t.Errorf("%q, want %q", text(m), want)
		}
	}
	if got := readStream(t, s.Mux); text(got) != "-" {
		t.Errorf("%q by stream", text(got))
	}
	if c.Stats()["no UDP at that address"] != 1 {
		t.Error("not counted")
	}
}

// TestNoStreamIsRemembered: a peer to which no way leads is not dialled for each datagram.
func TestNoStreamIsRemembered(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	peer := s.LocalAddr()
	var dials atomic.Int32
	c := client(t, s, peer, func(context.Context) (net.Conn, error) {
		dials.Add(1)
		return nil, errALPN
	})
	c.Block(true)
	if err := c.Reach(t.Context(), peer); !errors.Is(err, ErrNoStream) {
		t.Fatal(err)
	}
	send(t, c, peer, "one", "two")
	if c.Reaches(peer) || dials.Load() != 1 {
		t.Errorf("reaches %v, dialled %d times", c.Reaches(peer), dials.Load())
	}
	if !c.Reaches(ByUDP(peer)) {
		t.Error("a probe is not let out")
	}
}

func TestHostileFrames(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	for _, b := range [][]byte{{0xff, 0xff}, {0x04, 0xb1}, bytes.Repeat([]byte{0x41}, 4096)} {
		c := s.open(t)
		_, _ = c.Write(b) // the other side may hang up before it has read all
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("% x…: %v", b[:2], err)
		}
	}
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 0 })
}

// TestFloodOfOneLeavesOthersRoom: a stream that is never empty is read no faster than others.
func TestFloodOfOneLeavesOthersRoom(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	flood, honest := s.open(t), s.open(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := bytes.Repeat([]byte{0, 1, 'x'}, 4096)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := flood.Write(b); err != nil {
				return
			}
		}
	}()
	first := readStream(t, s.Mux)
	if text(first) != "x" {
		t.Fatal(text(first))
	}
	frame, _ := AppendFrame(nil, []byte("honest"))
	if _, err := honest.Write(frame); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(s.in) == unread+1 }) // what the flood may have under way, and the honest one
	before := 0
	for text(readStream(t, s.Mux)) != "honest" {
		if before++; before > unread {
			t.Fatal("the flood goes before everything")
		}
	}
	close(stop)
	_ = flood.Close()
	<-done
}

// TestWhoDoesNotReadLosesOldest: a stream whose peer takes nothing costs a bounded queue, and ends.
func TestWhoDoesNotReadLosesOldest(t *testing.T) {
	for outcome, stall := range map[string]time.Duration{"stream too slow": time.Hour, "stream has ended": 100 * time.Millisecond} {
		s := newServed(t, MuxConfig{}, func(l *streamTimes) { l.stall = stall })
		c := s.open(t)
		frame, _ := AppendFrame(nil, []byte("hello"))
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		to := readStream(t, s.Mux).Addr
		long := string(make([]byte, protocol.MaxDatagram))
		for s.Stats()[outcome] == 0 {
			send(t, s.Mux, to, long, long, long, long)
		}
	}
}

// TestIdleStreams: those that prove nothing crowd each other out, not those that have, and end by themselves.
func TestIdleStreams(t *testing.T) {
	s := newServed(t, MuxConfig{Unproved: 8, Streams: 12, PerSource: 1000}, nil)
	honest := s.open(t)
	frame, _ := AppendFrame(nil, []byte("honest"))
	if _, err := honest.Write(frame); err != nil {
		t.Fatal(err)
	}
	from := readStream(t, s.Mux).Addr
	s.Confirm(time.Now(), from)
	var silent []ByteConn
	for range 40 {
		silent = append(silent, s.open(t))
	}
	until(t, s.Mux, "too many streams from source", atLeast(36)) // half of the room for newcomers is one source's
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 5 })
	for _, c := range silent {
		_ = c.Close()
	}
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 1 })
	s.mu.Lock()
	s.times.prove = 10 * time.Millisecond
	s.mu.Unlock()
	late := s.open(t)
	_ = late.SetReadDeadline(time.Now().Add(patience))
	if _, err := late.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one that proves nothing: %v", err)
	}
	until(t, s.Mux, "accepted", atLeast(6))
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 1 })
	send(t, s.Mux, from, "still here")
	got, err := ReadFrame(bufio.NewReader(honest))
	if err != nil || string(got) != "still here" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSlowloris: bytes that never become a datagram do not keep a stream alive.
func TestSlowloris(t *testing.T) {
	s := newServed(t, MuxConfig{}, func(l *streamTimes) { l.prove = 300 * time.Millisecond })
	c := s.open(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	b := append([]byte{0x04, 0xb0}, make([]byte, protocol.MaxDatagram)...)
	for i := 0; ; i++ {
		<-tick.C
		if i == len(b) {
			t.Fatal("it was let finish its datagram")
		}
		if _, err := c.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

// TestKeepAlive: the dialler asks, the acceptor answers, and a stream on which nothing is heard ends.
func TestKeepAlive(t *testing.T) {
	s := newServed(t, MuxConfig{}, nil)
	peer := s.LocalAddr()
	c := client(t, s, peer, s.byTLS)
	c.times.keepAlive, c.times.deaf, c.times.unused = 20*time.Millisecond, 2*time.Second, 300*time.Millisecond
	if err := c.Reach(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	until(t, s.Mux, "accepted", atLeast(1))
	until(t, c, "dialled now", func(n uint64) bool { return n == 0 }) // unused for long enough
	until(t, s.Mux, "accepted now", func(n uint64) bool { return n == 0 })

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	deaf := client(t, s, peer, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", silent.Addr().String())
	})
	deaf.times.keepAlive, deaf.times.deaf = 20*time.Millisecond, 100*time.Millisecond
	deaf.Block(true)
	eventually(t, func() bool { // so short a life counts as none, unless this machine took long over it
		_ = deaf.Reach(t.Context(), peer)
		return !deaf.Reaches(peer)
	})
}

func eventually(t testing.TB, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !f(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it does not happen")
		}
	}
}

// TestWebHasNothing: to others it is a web server without a page, and slow ones are let go.
func TestWebHasNothing(t *testing.T) {
	https, plain := testWeb(t, Services{ServiceMessages: func(c ByteConn) { _ = c.Close() }})
	for _, req := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /culvert/messages/1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /culvert/messages/1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: https://evil.example\r\n\r\n",
		"GET /" + string(bytes.Repeat([]byte{'a'}, 2*maxHeader)) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("tcp", plain)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, req)
		_ = c.SetReadDeadline(time.Now().Add(patience))
		got, _ := io.ReadAll(c)
		if len(got) > 0 && !bytes.HasPrefix(got, []byte("HTTP/1.1 4")) {
			t.Errorf("%.40q is answered %.80q", req, got)
		}
		_ = c.Close()
	}
	_ = https
}

// BenchmarkMuxWriteBatch is BenchmarkReadBatch through a Mux: the socket's way must cost nothing more.
func BenchmarkMuxWriteBatch(b *testing.B) {
	from, to := NewMux(listenUDP(b, "[::1]:0", false), MuxConfig{}), listenUDP(b, "[::1]:0", false)
	b.Cleanup(func() { _ = from.Close() })
	out, in := buffers(benchBatch, benchSize), buffers(benchBatch, 1500)
	for i := range out {
		out[i].Addr, out[i].N = to.LocalAddr(), benchSize
	}
	b.ReportAllocs()
	for done := 0; done < b.N; done += benchBatch {
		if _, err := from.WriteBatch(out); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < benchBatch; {
			n, err := to.ReadBatch(in)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}

// TestMuxAllocatesNothingForUDP holds the socket's way to that.
func TestMuxAllocatesNothingForUDP(t *testing.T) {
	from, to := NewMux(listenUDP(t, "127.0.0.1:0", false), MuxConfig{}), listenUDP(t, "127.0.0.1:0", false)
	t.Cleanup(func() { _ = from.Close() })
	ms := datagrams(to.LocalAddr(), "a", "b", "c")
	if n := testing.AllocsPerRun(100, func() { _, _ = from.WriteBatch(ms) }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}
