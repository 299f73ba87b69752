package rawtcp

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// joined are the two ends of a connection that a listener at addr has accepted.
func joined(t *testing.T, addr string) (near *Conn, far *net.TCPConn) {
	t.Helper()
	l, err := Listen(netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	dialled, err := Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	far = dialled.TCPConn
	near, err = l.AcceptConn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestAcceptedConnections(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		near, far := joined(t, addr)
		if _, err := near.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(far); string(b) != "word" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := near.Write([]byte("word")); err == nil {
			t.Error("written after the end")
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := near.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
		near.Close()
		if near.CloseWrite() == nil {
			t.Error("a closed connection was ended")
		}
	}
	if _, err := Listen(netip.MustParseAddrPort("192.0.2.1:0")); err == nil {
		t.Error("listens at an address that is not here")
	}
}
