package carrier

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// Clients that say half of a request are few, however many there want to be, and whoever speaks is heard when they have left.
func TestWebBoundsWhoAsks(t *testing.T) {
	w := patientWeb(Services{ServiceMessages: func(c ByteConn) { _ = c.Close() }})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ServeHTTP(l.(*net.TCPListener)); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	asking := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.asking)
	}
	dial := func(text string) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(patience); asking() != n; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d ask, not %d", asking(), n)
			}
		}
	}
	var held []net.Conn
	for range webPerSource {
		held = append(held, dial("GET /"))
	}
	await(webPerSource)
	one := make([]byte, 1)
	for range 20 {
		c := dial("GET /")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(one); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("one too many was kept: %v", err)
		}
	}
	if n := asking(); n != webPerSource {
		t.Errorf("%d ask", n)
	}
	for _, c := range held {
		c.Close()
	}
	await(0)
	c := dial("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(one); err != nil || one[0] != 'H' {
		t.Errorf("no answer: %v", err)
	}
	await(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sources) != 0 {
		t.Errorf("sources are remembered: %v", w.sources)
	}
}
