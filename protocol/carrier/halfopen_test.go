package carrier

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestHalfOpenCapsBySource(t *testing.T) {
	var counts [reasons]atomic.Uint64
	h := newHalfOpen(100, 2, &counts)
	add := func() *pending {
		_, conn := pipe(t)
		return h.add(conn)
	}
	a, b := add(), add()
	if !h.spoke(a) {
		t.Fatal("a was dropped")
	}
	c := add()
	if h.spoke(b) || !h.spoke(c) {
		t.Fatal("the silent one of the source had to go, and only it")
	}
	if add() != nil {
		t.Fatal("a third one while two shake hands")
	}
	if !h.done(a) || h.done(a) || add() == nil {
		t.Fatal("a finished one makes room, once")
	}
	if counts[reasonSource].Load() != 1 {
		t.Fatal("dropped by source:", counts[reasonSource].Load())
	}
	h.close()
	if h.done(c) || len(h.sources) != 0 || add() != nil {
		t.Fatal("open after close")
	}
}

func TestHalfOpenStagesHaveTheirOwnRoom(t *testing.T) {
	var counts [reasons]atomic.Uint64
	h := newHalfOpen(4, 100, &counts)
	all := make([]*pending, 5)
	for i := range all {
		_, conn := pipe(t)
		if all[i] = h.add(conn); !h.spoke(all[i]) {
			t.Fatal(i)
		}
	}
	for i, p := range all {
		if got, want := h.done(p), i >= 3; got != want {
			t.Errorf("handshake %d alive: %v", i, got)
		}
	}
}

func TestOutOfDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newTCP(l.(*net.TCPListener), TCPConfig{Raw: map[byte]func(*Peeked){0x08: echo}})
	if err != nil {
		t.Fatal(err)
	}
	failed := false
	s.accept = func() (*net.TCPConn, error) {
		if s.half.len() == 1 && !failed {
			failed = true
			return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		}
		return s.listener.AcceptTCP()
	}
	silent := dial(t, s)
	s.wg.Go(s.acceptLoop)
	t.Cleanup(func() { _ = s.Close() })
	ended(t, silent)
	conn := dial(t, s, 0x08)
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	count(t, s, "out of descriptors", 1)
	count(t, s, "accept failed", 1)
}

func (h *halfOpen) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent.Len() + h.shaking.Len()
}

func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7",
		"::ffff:192.0.2.7":  "192.0.2.7",
		"2001:db8:1:2:3::4": "2001:db8:1:2::",
		"fe80::1":           "fe80::",
	} {
		if got := sourceOf(&net.TCPAddr{IP: net.ParseIP(remote), Port: 9, Zone: "1"}); got.String() != want {
			t.Errorf("%s counts as %v, want %s", remote, got, want)
		}
	}
}
