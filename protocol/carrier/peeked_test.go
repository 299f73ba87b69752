package carrier

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// pipe is a connected pair of TCP sockets.
func pipe(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = out.Close(), in.Close() })
	return out.(*net.TCPConn), in.(*net.TCPConn)
}

func TestPeekedReadsEverything(t *testing.T) {
	a, b := pipe(t)
	if _, err := a.Write([]byte("cdef")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p := &Peeked{TCPConn: b, Prefix: []byte("ab")}
	if err := iotest.TestReader(p, []byte("abcdef")); err != nil {
		t.Fatal(err)
	}
}

// Joined as a relay joins them: both sides peeked, both ways at once.
func TestPeekedJoined(t *testing.T) {
	a, left := pipe(t)
	b, right := pipe(t)
	l, r := &Peeked{left, []byte("x")}, &Peeked{right, []byte("yz")}
	done := make(chan error, 2)
	join := func(dst, src *Peeked) {
		_, err := io.Copy(dst, src)
		_ = dst.CloseWrite()
		done <- err
	}
	go join(l, r)
	go join(r, l)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, side := range []struct {
		conn *net.TCPConn
		data []byte
	}{{a, big}, {b, []byte("short")}} {
		go func() {
			_, _ = side.conn.Write(side.data)
			_ = side.conn.CloseWrite()
		}()
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "x"+string(big) {
		t.Fatal(len(got), err)
	}
	if got, err := io.ReadAll(a); err != nil || string(got) != "yzshort" {
		t.Fatal(string(got), err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzStreamOpening(f *testing.F) {
	s := startTCP(f, TCPConfig{
		TLS:       testTLS(f),
		Protocols: map[string]func(*tls.Conn){"culvert/link/1": say("link")},
		Raw:       map[byte]func(*Peeked){0x08: echo},
	})
	f.Add([]byte{})
	f.Add([]byte{0x08, 1, 2, 3})
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, opening []byte) {
		if len(opening) > 4096 {
			return // past a loopback socket's buffers, writing would have to wait for the echo
		}
		conn := dial(t, s, opening...)
		if err := conn.CloseWrite(); err != nil {
			return // refused meanwhile
		}
		got, err := io.ReadAll(conn)
		if len(opening) > 0 && opening[0] == 0x08 && (err != nil || !bytes.Equal(got, opening)) {
			t.Fatalf("echo of %x is %x, %v", opening, got, err)
		}
	})
}
