package carrier

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"
)

// said is a connection on which somebody has said something and takes what is written.
type said struct {
	net.Conn
	io.Reader
}

func (s said) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s said) Write(b []byte) (int, error) { return len(b), nil }

// FuzzProxyAnswer has an HTTP proxy answer anything: nothing behind the answer is lost, and no more is read than the bound.
func FuzzProxyAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 Connection established\r\n\r\nfirst bytes"))
	f.Add([]byte("HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwho?"))
	f.Add([]byte("HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add(append([]byte("HTTP/1.1 200 OK\r\nX: "), bytes.Repeat([]byte("x"), maxHeader)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: "192.0.2.1:443"}, Host: "192.0.2.1:443", Header: make(http.Header)}
		res, err := connectRequest(said{nil, r}, req)
		took := len(b) - r.Len()
		if took > maxHeader {
			t.Fatalf("%d bytes were read", took)
		}
		if err == nil && res.StatusCode == http.StatusOK && !bytes.HasSuffix(b[:took], []byte("\n")) {
			t.Fatalf("the answer ends with %q", b[:took])
		}
	})
}

// FuzzLane has datagrams of strangers come to QUIC's lane: none passes that neither names a connection of this lane nor starts
// one from an admitted address.
func FuzzLane(f *testing.F) {
	f.Add([]byte{0x40}, false)
	f.Add([]byte{0xc0, 0, 0, 0, 1, ConnectionIDSize, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, true)
	f.Add(bytes.Repeat([]byte{0xff}, 1200), false)
	stranger, friend := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	f.Fuzz(func(t *testing.T, b []byte, admitted bool) {
		if len(b) == 0 {
			return
		}
		now := time.Now()
		l := NewLane(nowhere{})
		l.Admit(now, friend, now.Add(time.Second))
		from := stranger
		if admitted {
			from = friend
		}
		if got := l.lets(now, from, b); got != (admitted && b[0]&longHeader != 0) {
			t.Fatalf("admitted %v: let in %v: %x", admitted, got, b)
		}
		if l.lets(now.Add(time.Second), from, b) {
			t.Fatalf("let in after its time: %x", b)
		}
		l.Admit(now, friend, now.Add(time.Second))
		l.Dismiss(friend)
		if l.lets(now, from, b) {
			t.Fatalf("let in after it was dismissed: %x", b)
		}
		id, err := l.ConnectionID()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > ConnectionIDSize && b[0]&longHeader == 0 {
			copy(b[shortHeader:], id[:])
			if !l.lets(now, stranger, b) {
				t.Fatalf("a connection's own datagram was refused: %x", b)
			}
		}
	})
}

// nowhere is a socket that nothing leaves.
type nowhere struct{ Conn }

func (nowhere) LocalAddr() netip.AddrPort { return netip.AddrPortFrom(netip.IPv4Unspecified(), 1) }
