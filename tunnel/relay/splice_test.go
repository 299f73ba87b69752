package relay

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// An allowance holds to the byte, also where the kernel moves most of it.
func TestSpliceKeepsAllowance(t *testing.T) {
	const allowed = lastPieces*splicePiece + 8<<20 + 12345
	for name, cfg := range map[string]Config{
		"of the node": {Node: Allowance{Bytes: allowed}}, "of the domain": {Domain: Allowance{Bytes: allowed}},
	} {
		t.Run(name, func(t *testing.T) {
			r, addr := start(t, cfg)
			a, b := join(t, addr, node(7, 1), node(7, 2), 1)
			go func() { _, _ = io.Copy(io.Discard, b) }()
			block := make([]byte, 1<<20)
			for {
				if _, err := a.Write(block); err != nil {
					break
				}
			}
			waitFor(t, r, "connections now", 0)
			s := r.Stats()
			if s["bytes"] != allowed || s["bytes used up"] != 1 {
				t.Errorf("%d bytes of %d, %d times used up", s["bytes"], allowed, s["bytes used up"])
			}
			if s["bytes spliced"] == 0 {
				t.Error("nothing was spliced")
			}
			refused(t, addr, message(node(7, 1), node(7, 2), 2))
		})
	}
}

// A rate holds where the kernel moves the bytes: they never come sooner than it allows, however slow the machine.
func TestSpliceKeepsRate(t *testing.T) {
	const perSecond, total = 64 << 20, 80 << 20
	r, addr := start(t, Config{Rate: perSecond})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	began := time.Now()
	go func() {
		_, _ = a.Write(make([]byte, total))
		_ = a.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, b)
	took := time.Since(began)
	if err != nil || n != total {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if allowed := perSecond * (1 + took.Seconds()); total > allowed {
		t.Errorf("%d bytes in %v", total, took)
	}
	if r.Stats()["bytes spliced"] == 0 {
		t.Error("nothing was spliced")
	}
}

// Beyond so many directions the others are carried in user space, and nothing is lost.
func TestSplicesAreBounded(t *testing.T) {
	const total = 24 << 20
	r, addr := start(t, Config{Splices: -1})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	go func() {
		_, _ = a.Write(make([]byte, total))
		_ = a.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, b); err != nil || n != total {
		t.Errorf("%d bytes, %v", n, err)
	}
	if s := r.Stats(); s["bytes spliced"] != 0 || s["bytes"] != total {
		t.Errorf("%d of %d bytes spliced", s["bytes spliced"], s["bytes"])
	}
}

// A pair of which one end sends and the other does not read counts as idle after a while, also in a splice.
func TestStalledPairIsIdle(t *testing.T) {
	r, addr := start(t, Config{Idle: 300 * time.Millisecond})
	a, _, pairs := joinIdle(t, addr)
	block := make([]byte, 1<<20)
	for {
		if _, err := a.Write(block); err != nil {
			break
		}
	}
	waitFor(t, r, "connections now", 0)
	if n := r.Stats()["idle"]; n != uint64(pairs) {
		t.Errorf("idle: %d of %d", n, pairs)
	}
}

// A receiver who does not read stops his sender and nobody else, holds no memory of the relay beyond a buffer, and gets every byte
// in the end.
func TestStalledReceiver(t *testing.T) {
	const most = 512 << 20 // the kernel's buffers along the way are a fraction of it
	r, addr := start(t, Config{})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	var sent atomic.Int64
	done := make(chan hash.Hash, 1)
	stop := make(chan struct{})
	go func() {
		h, block := sha256.New(), bytes.Repeat([]byte("culvert "), 128<<10)
		for {
			select {
			case <-stop:
				_ = a.CloseWrite()
				done <- h
				return
			default:
			}
			n, err := a.Write(block)
			h.Write(block[:n])
			if sent.Add(int64(n)); err != nil {
				done <- nil
				return
			}
		}
	}()
	for i := range byte(8) {
		c, d := join(t, addr, node(8, i+10), node(8, i+30), i+2)
		pass(t, c, d, 16<<20)
		_, _ = c.Close(), d.Close()
	}
	waitFor(t, r, "connections now", 2)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if n := sent.Load(); n > most {
		t.Errorf("%d bytes were taken from the sender", n)
	}
	if m.HeapInuse > 64<<20 {
		t.Errorf("%d bytes of heap", m.HeapInuse)
	}
	close(stop)
	h := sha256.New()
	n, err := io.Copy(h, b)
	if err != nil || n != sent.Load() {
		t.Fatalf("%d of %d bytes arrived, %v", n, sent.Load(), err)
	}
	if want := <-done; want == nil || !bytes.Equal(h.Sum(nil), want.Sum(nil)) {
		t.Error("other bytes arrived")
	}
}

func pass(t *testing.T, from, to *net.TCPConn, n int) {
	t.Helper()
	go func() { _, _ = from.Write(make([]byte, n)) }()
	if _, err := io.CopyN(io.Discard, to, int64(n)); err != nil {
		t.Fatal(err)
	}
}
