package relay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
)

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The test's signed message is sender ‖ peer ‖ token.
func message(sender, peer protocol.ID, token byte) []byte {
	h := protocol.Hash{token}
	return append(append(append([]byte(nil), sender[:]...), peer[:]...), h[:]...)
}

func verify(raw []byte) (*protocol.Verified, protocol.RelayJoin, error) {
	if len(raw) != 104 {
		return nil, protocol.RelayJoin{}, errors.New("not verified")
	}
	return &protocol.Verified{Sender: protocol.ID(raw[:36])},
		protocol.RelayJoin{Peer: protocol.ID(raw[36:72]), Token: protocol.Hash(raw[72:])}, nil
}

func node(domain protocol.Domain, n byte) protocol.ID {
	return protocol.NewID(domain, protocol.Hash{n})
}

// start serves a relay on loopback and returns its address.
func start(t testing.TB, cfg Config) (*Relay, string) {
	t.Helper()
	cfg.Verify = verify
	cfg.Hello, cfg.Wait = patience, cmp.Or(cfg.Wait, patience) // nobody is too slow unless the test is about it
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.Serve(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		r.Close()
	})
	return r, l.Addr().String()
}

func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// join joins two nodes and returns their connections.
func join(t testing.TB, addr string, a, b protocol.ID, token byte) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	ca, cb, err := tryJoin(t, addr, a, b, token)
	if err != nil {
		t.Fatal(err)
	}
	return ca, cb
}

func tryJoin(t testing.TB, addr string, a, b protocol.ID, token byte) (ca, cb *net.TCPConn, err error) {
	t.Helper()
	ca, cb = dial(t, addr), dial(t, addr)
	got := make(chan error, 1)
	go func() { got <- Join(context.Background(), ca, message(a, b, token)) }()
	err = Join(context.Background(), cb, message(b, a, token))
	return ca, cb, errors.Join(err, <-got)
}

// joinIdle is join where a pair is given up for idle so soon that a busy machine may need several attempts, which it counts.
func joinIdle(t testing.TB, addr string) (a, b *net.TCPConn, pairs byte) {
	t.Helper()
	for pairs = 1; pairs < 100; pairs++ {
		var err error
		if a, b, err = tryJoin(t, addr, node(7, 1), node(7, 2), pairs); err == nil {
			return a, b, pairs
		}
	}
	t.Fatal("no pair lasts until both ends are told")
	return nil, nil, 0
}

func TestBytesBothWaysWithHalfClose(t *testing.T) {
	for name, cfg := range map[string]Config{
		"spliced": {}, "paced": {Node: Allowance{Rate: 1 << 30}},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := start(t, cfg)
			a, b := join(t, addr, node(7, 1), node(7, 2), 1)
			data := make([]byte, 24<<20)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				_, _ = a.Write(data)
				_ = a.CloseWrite()
			}()
			h := sha256.New()
			if _, err := io.Copy(h, b); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(h.Sum(nil), sum(data)) {
				t.Error("other bytes arrived")
			}
			// The other direction still goes after the first has ended.
			if _, err := b.Write([]byte("answer")); err != nil {
				t.Fatal(err)
			}
			_ = b.CloseWrite()
			got, err := io.ReadAll(a)
			if err != nil || string(got) != "answer" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func TestResetIsPassedOn(t *testing.T) {
	_, addr := start(t, Config{})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	_ = a.SetLinger(0)
	_ = a.Close()
	if _, err := io.ReadAll(b); err == nil {
		t.Error("a reset arrived as an orderly end")
	}
}

func refused(t *testing.T, addr string, msg []byte) {
	t.Helper()
	if err := Join(context.Background(), dial(t, addr), msg); !errors.Is(err, ErrNotJoined) {
		t.Errorf("got %v, want ErrNotJoined", err)
	}
}

func TestRefused(t *testing.T) {
	a, b, c, foreign := node(7, 1), node(7, 2), node(7, 3), node(8, 2)
	r, addr := start(t, Config{Wait: 20 * time.Millisecond})
	refused(t, addr, message(a, b, 9)) // b never comes
	waitFor(t, r, "the other end did not come", 1)
	r, addr = start(t, Config{})
	refused(t, addr, []byte("nobody signed this"))
	refused(t, addr, message(a, foreign, 1))
	refused(t, addr, message(a, a, 1))
	refused(t, addr, message(a, b, 0))
	join(t, addr, a, b, 1)
	refused(t, addr, message(a, b, 1)) // spent
	refused(t, addr, message(b, a, 1))

	first := dial(t, addr)
	got := make(chan error, 1)
	go func() { got <- Join(context.Background(), first, message(a, b, 2)) }()
	waitFor(t, r, "waiting now", 1)
	refused(t, addr, message(c, a, 2)) // a does not expect c, and goes on waiting for b
	if err := Join(context.Background(), dial(t, addr), message(b, a, 2)); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	waitFor(t, r, "joined", 4) // each end is counted after it has been told
	s := r.Stats()
	for k, n := range map[string]uint64{"join not verified": 1, "the two ends do not fit": 3, "token spent": 3,
		"the other end did not come": 0, "joined": 4} {
		if s[k] != n {
			t.Errorf("%s: %d, want %d", k, s[k], n)
		}
	}
}

func waitFor(t *testing.T, r *Relay, key string, n uint64) {
	t.Helper()
	for end := time.Now().Add(patience); r.Stats()[key] != n; {
		if time.Now().After(end) {
			t.Fatalf("%s is %d, want %d", key, r.Stats()[key], n)
		}
		<-time.After(time.Millisecond)
	}
}

func TestAllowances(t *testing.T) {
	r, addr := start(t, Config{Node: Allowance{Connections: 2, Bytes: 1 << 20}})
	a, b := node(7, 1), node(7, 2)
	join(t, addr, a, b, 1)
	ca, cb := join(t, addr, a, b, 2)
	refused(t, addr, message(a, b, 3))
	go func() { _, _ = ca.Write(make([]byte, 4<<20)) }()
	n, err := io.Copy(io.Discard, cb)
	if err == nil || n > 2<<20 {
		t.Errorf("%d bytes passed, %v", n, err)
	}
	waitFor(t, r, "bytes used up", 1)
}

func TestIdleAndDrop(t *testing.T) {
	_, addr := start(t, Config{Idle: 50 * time.Millisecond})
	_, b, _ := joinIdle(t, addr)
	if _, err := io.ReadAll(b); err == nil {
		t.Error("an idle pair ended in order")
	}
	r, addr := start(t, Config{})
	_, b = join(t, addr, node(7, 1), node(7, 2), 1)
	if n := r.Drop(func(id protocol.ID) bool { return id == node(7, 1) }); n != 1 {
		t.Errorf("dropped %d", n)
	}
	if _, err := io.ReadAll(b); err == nil {
		t.Error("a revoked node's pair ended in order")
	}
}

func TestTableIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	tab := newTable(2, time.Minute)
	w := func(a, b byte) *guest { return &guest{sender: node(7, a), peer: node(7, b)} }
	for i := range byte(2) {
		if _, why := tab.join(now, protocol.Hash{i + 1}, w(1, 2)); why != reasonNone {
			t.Fatal(reasonNames[why])
		}
	}
	if _, why := tab.join(now, protocol.Hash{9}, w(1, 2)); why != reasonFull {
		t.Errorf("third wait: %s", reasonNames[why])
	}
	if o, why := tab.join(now, protocol.Hash{1}, w(2, 1)); o == nil || why != reasonNone {
		t.Errorf("pair: %s", reasonNames[why])
	}
	if _, why := tab.join(now.Add(59*time.Second), protocol.Hash{1}, w(2, 1)); why != reasonSpent {
		t.Errorf("spent: %s", reasonNames[why])
	}
	tab.expire(now.Add(time.Minute))
	if len(tab.used) != 0 || len(tab.order) != 0 {
		t.Error("spent tokens are kept for ever")
	}
}

func TestJoinGolden(t *testing.T) {
	b, err := AppendJoin(nil, []byte{0xaa, 0xbb})
	if err != nil || !bytes.Equal(b, []byte{8, 0, 2, 0xaa, 0xbb}) {
		t.Errorf("% x, %v", b, err)
	}
	for n := range b {
		if _, err := readJoin(bytes.NewReader(b[:n])); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
	if _, err := AppendJoin(nil, make([]byte, maxJoin+1)); err == nil {
		t.Error("oversized join")
	}
}

func FuzzJoin(f *testing.F) {
	f.Add([]byte{8, 0, 2, 1, 2})
	f.Add([]byte{8, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readJoin(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := AppendJoin(nil, m)
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Fatal("does not come back")
		}
	})
}
