package quicconn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol/key"
	"culvert/tunnel/link"
)

// patience is far more than anything takes; no test passes by it.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), longEnough)
	t.Cleanup(cancel)
	return ctx
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// pair opens a further stream at both ends, by one byte.
func pair(t testing.TB, from, to *Conn) (out, in net.Conn) {
	t.Helper()
	ctx := patience(t)
	out, err := from.Open(ctx)
	check(t, err)
	_, err = out.Write([]byte{9})
	check(t, err)
	in, err = to.Accept(ctx)
	check(t, err)
	_, err = io.ReadFull(in, make([]byte, 1))
	check(t, err)
	return out, in
}

func BenchmarkStream(b *testing.B) {
	from, to := connect(b, newNode(b, 1), newNode(b, 2))
	out, in := pair(b, from, to)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, in) })
	piece := make([]byte, 64<<10)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		_, err := out.Write(piece)
		check(b, err)
	}
	_ = out.Close()
	wg.Wait()
}

func TestHandshakeProvesBothKeys(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	from, to := connect(t, a, b)
	for _, c := range []struct {
		conn *Conn
		key  key.Public
	}{{from, b.peer.Signing}, {to, a.peer.Signing}} {
		s := c.conn.State()
		lc, err := link.FromState(c.conn, s)
		if err != nil || lc.Key != c.key {
			t.Errorf("key %v, %v", lc.Key, err)
		}
		if s.DidResume || s.NegotiatedProtocol != link.ALPN || s.ServerName != link.ServerName(b.peer.ID) {
			t.Errorf("handshake %+v", s)
		}
	}
	var secrets [2][]byte
	for i, c := range []*Conn{from, to} {
		s := c.State()
		var err error
		secrets[i], err = s.ExportKeyingMaterial("EXPORTER-culvert-bulk", []byte("context"), 32)
		check(t, err)
	}
	if !bytes.Equal(secrets[0], secrets[1]) {
		t.Error("the two ends export different keys")
	}
	if from.Remote() != b.addr() || to.Remote() != a.addr() {
		t.Errorf("remotes %s, %s", from.Remote(), to.Remote())
	}
	// Another key than the one called by.
	ctx := patience(t)
	ready := b.expects(a.addr())
	stop, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = b.AcceptFrom(stop, a.addr(), link.ServerTLS(&b.cert)) })
	ready()
	if _, err := a.Dial(ctx, b.addr(), link.ClientTLS(&a.cert, a.peer)); err == nil {
		t.Error("a node was reached under another one's name")
	}
	cancel()
	wg.Wait()
}

func TestLargeStreamAndHalfClose(t *testing.T) {
	from, to := connect(t, newNode(t, 1), newNode(t, 2))
	out, in := pair(t, from, to)
	data := noise(16 << 20)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := out.Write(data); err != nil {
			t.Error(err)
		}
		_ = out.Close() // delivers what was written
	})
	h := sha256.New()
	_, err := io.Copy(h, in)
	check(t, err)
	if [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Error("other bytes came than were sent")
	}
	wg.Wait()
	if _, err := in.Write([]byte("anybody there?")); err == nil {
		// The peer's word that he reads no more may be on its way still.
		_, err = io.Copy(in, bytes.NewReader(noise(8<<20)))
		if err == nil {
			t.Error("wrote to a stream that nobody reads")
		}
	}
}

func TestStreamClosedWhileWriting(t *testing.T) {
	from, to := connect(t, newNode(t, 1), newNode(t, 2))
	out, in := pair(t, from, to)
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := out.Write(noise(64 << 20)); err == nil {
			t.Errorf("%d bytes written to nobody", n)
		}
	})
	_, err := io.ReadFull(in, make([]byte, 1000))
	check(t, err)
	_ = out.Close()
	wg.Wait()
	if _, err := io.Copy(io.Discard, in); err == nil {
		t.Error("a broken stream ended in order")
	}
	// Others go on.
	out, in = pair(t, from, to)
	_, err = out.Write([]byte("still here"))
	check(t, err)
	got := make([]byte, 10)
	_, err = io.ReadFull(in, got)
	check(t, err)
}

func TestDeadlines(t *testing.T) {
	from, to := connect(t, newNode(t, 1), newNode(t, 2))
	out, in := pair(t, from, to)
	for _, c := range []net.Conn{from, to, out, in} {
		check(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		check(t, c.SetDeadline(time.Time{}))
	}
	check(t, from.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	if _, err := from.Write(noise(64 << 20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

// The last words of who closes arrive, although Close does not wait.
func TestCloseDelivers(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.times.linger = longEnough // it is over as soon as the other side has read everything
	for range 20 {
		from, to := connect(t, a, b)
		out, in := pair(t, from, to)
		_, err := from.Write([]byte("goodbye"))
		check(t, err)
		check(t, from.Close())
		check(t, from.Close())
		got, err := io.ReadAll(to)
		if err != nil || string(got) != "goodbye" {
			t.Fatalf("%q arrived, %v", got, err)
		}
		if _, err := from.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if _, err := from.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		check(t, to.Close())
		<-from.Done()
		<-to.Done()
		for _, s := range []net.Conn{out, in} {
			if _, err := s.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("a stream of a closed connection ended with %v", err)
			}
		}
	}
}

// A stuck writer and a stuck reader are let go by Close, also where nothing reaches the other side.
func TestCloseOfADeadConnection(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	f := newFar(t, b.addr())
	from, _ := connectBy(t, a, b, f.addr(), f.seen())
	f.silence()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = from.Write(noise(64 << 20)) })
	wg.Go(func() { _, _ = from.Read(make([]byte, 1)) })
	out, err := from.Open(patience(t))
	check(t, err)
	wg.Go(func() { _, _ = out.Write(noise(64 << 20)) })
	check(t, from.Close())
	wg.Wait()
	<-from.Done()
}

// The peer's NAT gives it another port: the connection goes on.
func TestRebinding(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	f := newFar(t, b.addr())
	from, to := connectBy(t, a, b, f.addr(), f.seen())
	before := to.Remote()
	// Not before a knows that its handshake is confirmed (RFC 9000, section 9), which b says ahead of everything else.
	_, err := to.Write([]byte("well"))
	check(t, err)
	_, err = io.ReadFull(from, make([]byte, 4))
	check(t, err)
	f.rebind()
	out, in := pair(t, from, to)
	data := noise(4 << 20)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := out.Write(data)
		if err != nil {
			t.Error(err)
		}
		_ = out.Close()
	})
	got, err := io.ReadAll(in)
	check(t, err)
	if !bytes.Equal(got, data) {
		t.Error("other bytes came")
	}
	wg.Wait()
	if to.Remote() == before {
		t.Errorf("the peer is still sought at %s", before)
	}
}

// Nobody is answered who was not asked for.
func TestStrangers(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	for b.lane.Stats()["stranger"] == 0 { // his datagrams are counted
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		if _, err := a.Dial(ctx, b.addr(), link.ClientTLS(&a.cert, b.peer)); err == nil {
			t.Error("a stranger was let in")
		}
		cancel()
	}
	// Admitted, but waited for no longer: no certificate is shown.
	b.lane.Admit(time.Now(), a.addr(), time.Now().Add(time.Minute))
	if _, err := a.Dial(patience(t), b.addr(), link.ClientTLS(&a.cert, b.peer)); err == nil {
		t.Error("somebody was let in for whom nobody waited")
	}
	// Somebody waits, and gives up.
	done, stop := context.WithCancel(context.Background())
	stop()
	if _, err := b.AcceptFrom(done, a.addr(), link.ServerTLS(&b.cert)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if len(b.expected) != 0 {
		t.Error("somebody is expected for ever")
	}
	_ = b.Close()
	if _, err := b.AcceptFrom(patience(t), a.addr(), link.ServerTLS(&b.cert)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := b.Dial(patience(t), a.addr(), link.ClientTLS(&b.cert, a.peer)); err == nil {
		t.Error("dialled after Close")
	}
}

// An admitted peer that begins handshake after handshake is soon refused before anything is computed for it.
func TestHandshakesAreFew(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	var greeted atomic.Int32
	conf := &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		greeted.Add(1)
		return nil, errors.New("not this one")
	}}
	ctx, cancel := context.WithCancel(patience(t))
	var waits sync.WaitGroup
	waits.Go(func() { _, _ = b.AcceptFrom(ctx, a.addr(), conf) })
	b.expects(a.addr())()
	for range 3 * mostTries {
		if _, err := a.Dial(patience(t), b.addr(), link.ClientTLS(&a.cert, b.peer)); err == nil {
			t.Fatal("let in")
		}
	}
	cancel()
	waits.Wait()
	if n := greeted.Load(); n != mostTries {
		t.Errorf("%d handshakes of %d were looked at", n, 3*mostTries)
	}
	connect(t, a, b) // somebody waits anew
}

// A peer that was connected before may dial again before it is waited for: its first packets are lost, not refused.
func TestDialledBeforeAwaited(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	from, _ := connect(t, a, b)
	_ = from.Close()
	strangers := func() uint64 { return b.lane.Stats()["stranger"] }
	before := strangers()
	var dialled sync.WaitGroup
	dialled.Go(func() {
		c, err := a.Dial(patience(t), b.addr(), link.ClientTLS(&a.cert, b.peer))
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		if err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(longEnough); strangers() == before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if _, err := b.AcceptFrom(patience(t), a.addr(), link.ServerTLS(&b.cert)); err != nil {
		t.Error(err)
	}
	dialled.Wait()
}

// A connection works on while random bytes, and mangled ones of its own, come in from everywhere.
func TestStorm(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	from, to := connect(t, a, b)
	out, in := pair(t, from, to)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(b.addr()))
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		rng := rand.NewChaCha8([32]byte{3})
		p := make([]byte, 1452)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for range 50 {
				_, _ = rng.Read(p)
				p[0] |= 0x40
				if rng.Uint64()%2 == 0 { // one that passes the lane: the connection must see that it is no packet of its
					id, _ := b.lane.ConnectionID()
					copy(p[1:], id[:])
					p[0] &= 0x7f
				}
				_, _ = s.Write(p[:1+rng.Uint64()%1452])
			}
		}
	})
	wg.Go(func() {
		if _, err := io.Copy(in, in); err != nil {
			t.Error(err)
		}
		_ = in.Close()
	})
	piece := noise(1000)
	got := make([]byte, len(piece))
	for range 500 {
		_, err := out.Write(piece)
		check(t, err)
		_, err = io.ReadFull(out, got)
		check(t, err)
		if !bytes.Equal(got, piece) {
			t.Fatal("other bytes came back")
		}
	}
	close(stop)
	_ = out.Close()
	wg.Wait()
}

// Many connections between the same two addresses.
func TestManyFromOneAddress(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	ctx := patience(t)
	var wg sync.WaitGroup
	const many = 30
	for range many {
		wg.Go(func() {
			c, err := b.AcceptFrom(ctx, a.addr(), link.ServerTLS(&b.cert))
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(c, c)
		})
	}
	for {
		b.mu.Lock()
		n := len(b.expected[a.addr()])
		b.mu.Unlock()
		if n == many {
			break
		}
	}
	for i := range many {
		wg.Go(func() {
			c, err := a.Dial(ctx, b.addr(), link.ClientTLS(&a.cert, b.peer))
			if err != nil {
				t.Error(err)
				return
			}
			_, err = c.Write([]byte{byte(i)})
			one := make([]byte, 1)
			if _, e := io.ReadFull(c, one); err != nil || e != nil || one[0] != byte(i) {
				t.Errorf("%d came back as %d: %v, %v", i, one[0], err, e)
			}
			_ = c.Close()
		})
	}
	wg.Wait()
}

// A socket of its own, as the birthday method leaves one, at either end.
func TestAlone(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	at := sock.LocalAddr().(*net.UDPAddr).AddrPort()
	c := &node{cert: a.cert, peer: a.peer}
	c.Endpoint, err = newEndpoint(Alone(sock, b.addr()), patient)
	check(t, err)
	t.Cleanup(func() {
		_ = c.Endpoint.Close()
		_ = sock.Close()
	})
	for _, way := range [][2]*node{{c, b}, {b, c}} {
		addr, seen := b.addr(), at
		if way[0] == b {
			addr, seen = at, b.addr()
		}
		from, to := connectBy(t, way[0], way[1], addr, seen)
		out, in := pair(t, from, to)
		_, err := out.Write([]byte("over a socket of its own"))
		check(t, err)
		_ = out.Close()
		got, err := io.ReadAll(in)
		if err != nil || string(got) != "over a socket of its own" {
			t.Errorf("%q, %v", got, err)
		}
		check(t, to.Close())
		_, _ = io.ReadAll(from)
		check(t, from.Close())
		<-to.Done()
	}
	// Another address is not spoken with.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	stranger := newNode(t, 3)
	if _, err := stranger.Dial(ctx, at, link.ClientTLS(&stranger.cert, c.peer)); err == nil {
		t.Error("a stranger was answered")
	}
	if _, err := c.AcceptFrom(ctx, stranger.addr(), link.ServerTLS(&c.cert)); err == nil {
		t.Error("another address than the peer's was waited for")
	}
}

// The peer dials before this side waits for him: he loses nothing by it.
func TestAloneIsDialledEarly(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	at := sock.LocalAddr().(*net.UDPAddr).AddrPort()
	e, err := newEndpoint(Alone(sock, a.addr()), patient)
	check(t, err)
	t.Cleanup(func() {
		_ = e.Close()
		_ = sock.Close()
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := a.Dial(patience(t), at, link.ClientTLS(&a.cert, b.peer))
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		if err != nil {
			t.Error(err)
		}
	})
	for a.sent.Load() == 0 { // then the first packet is there
		runtime.Gosched()
	}
	c, err := e.AcceptFrom(patience(t), a.addr(), link.ServerTLS(&b.cert))
	check(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	check(t, err)
	wg.Wait()
}

// TestIdleCost says what an idle connection costs at both ends together.
func TestIdleCost(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	connect(t, a, b)
	before, heap := runtime.NumGoroutine(), inUse()
	const many = 50
	var all []*Conn
	for range many {
		from, to := connect(t, a, b)
		all = append(all, from, to)
	}
	for end := time.Now().Add(longEnough); ; { // the goroutines of the handshakes may be at their ends still
		goroutines, bytes := (runtime.NumGoroutine()-before)/many, (inUse()-heap)/many
		if goroutines <= 4 && bytes <= 256<<10 {
			t.Logf("an idle connection: %d goroutines and %d KiB at both ends together", goroutines, bytes>>10)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d bytes", goroutines, bytes)
		}
	}
	for _, c := range all {
		_ = c.Close()
	}
}

// inUse is the memory in use by the heap and by stacks.
func inUse() int {
	for range 3 {
		runtime.GC()
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return int(ms.HeapInuse + ms.StackInuse)
}
