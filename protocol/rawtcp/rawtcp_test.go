package rawtcp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func pair(t testing.TB) (*Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return New(a.(*net.TCPConn)), b.(*net.TCPConn)
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func TestBytesBothWays(t *testing.T) {
	c, far := pair(t)
	data := noise(5 << 20)
	go func() {
		_, _ = io.Copy(struct{ io.Writer }{far}, struct{ io.Reader }{far})
		_ = far.CloseWrite()
	}()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	got, err := io.ReadAll(struct{ io.Reader }{c})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(data), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// lender counts.
type lender struct {
	buf            []byte
	lent, returned int
	asked          chan struct{}
}

func (l *lender) Lend() []byte {
	l.lent++
	return l.buf
}

func (l *lender) Return() {
	l.returned++
	l.asked <- struct{}{}
}

func TestClosedWhileWaiting(t *testing.T) {
	c, _ := pair(t)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	_ = c.Close()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	if _, err := c.Write([]byte{1}); err == nil {
		t.Error("a closed connection is written to")
	}
	if n, err := c.TryWrite([]byte{1}); n != 0 || onlyHere && err == nil {
		t.Error("a closed connection is written to")
	}
}

func TestResetIsAnError(t *testing.T) {
	c, far := pair(t)
	_ = far.SetLinger(0)
	_ = far.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func TestDeadline(t *testing.T) {
	c, _ := pair(t)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	_, err := c.Read(make([]byte, 1))
	if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		t.Error(err)
	}
}

func TestNoAllocation(t *testing.T) {
	c, far := pair(t)
	other := New(far)
	buf, back := make([]byte, 4<<10), make([]byte, 4<<10)
	if n := testing.AllocsPerRun(500, func() {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(other, back); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
