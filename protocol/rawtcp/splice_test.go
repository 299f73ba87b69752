package rawtcp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// way is two connections with a Splice between: what is written to in comes out of out.
type way struct {
	*Splice
	in, src, dst, out *net.TCPConn
}

func newWay(t testing.TB) way {
	t.Helper()
	src, in := pair(t)
	dst, out := pair(t)
	s, err := NewSplice(dst.TCPConn, src.TCPConn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return way{s, in, src.TCPConn, dst.TCPConn, out}
}

// The receiver begins when something is on its way, and gets everything in order, up to the end.
func TestSpliceMovesEverything(t *testing.T) {
	const piece = 7<<20 + 5
	w, data := newWay(t), noise(24<<20)
	ends := make(chan error, 2)
	begun := make(chan struct{})
	go func() {
		_, err := w.in.Write(data[:1<<20])
		close(begun)
		if err == nil {
			_, err = w.in.Write(data[1<<20:])
		}
		ends <- errors.Join(err, w.in.CloseWrite())
	}()
	go func() {
		var total int64
		var err error
		for err == nil {
			var n int64
			if n, err = w.Move(piece); err == nil && n != piece {
				err = errors.New("part of a piece without an error")
			}
			total += n
		}
		if err == io.EOF && total == int64(len(data)) {
			err = nil
		}
		ends <- errors.Join(err, w.dst.CloseWrite())
	}()
	<-begun
	got, err := io.ReadAll(struct{ io.Reader }{w.out})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	for range 2 {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}

// A deadline ends a wait, what came before it has moved, and it goes on after it.
func TestSpliceGoesOnAfterDeadline(t *testing.T) {
	w := newWay(t)
	for _, word := range []string{"before", "after"} {
		if _, err := w.in.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		if err := w.src.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Move(int64(len(word))); n != int64(len(word)) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := w.src.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Move(1); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes, %v after the deadline", n, err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(w.out, got); err != nil || string(got) != word {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// A receiver that is gone is an error of the call that moves to it.
func TestSpliceToNobody(t *testing.T) {
	w := newWay(t)
	_ = w.out.SetLinger(0)
	_ = w.out.Close()
	go func() {
		block := noise(1 << 20)
		for {
			if _, err := w.in.Write(block); err != nil {
				return
			}
		}
	}()
	defer w.in.Close()
	var err error
	for err == nil {
		_, err = w.Move(1 << 20)
	}
	if err == io.EOF {
		t.Error("an orderly end")
	}
}
