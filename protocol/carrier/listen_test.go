package carrier

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestListenPairSameNumber(t *testing.T) {
	for _, host := range []string{"", "127.0.0.1", "::1", "::", "0.0.0.0"} {
		udp, tcp, err := ListenPair(host, 0, false)
		if err != nil {
			t.Fatal(host, err)
		}
		if got := tcp.Addr().(*net.TCPAddr).Port; got == 0 || got != int(udp.LocalAddr().Port()) {
			t.Fatalf("%q: tcp %d, udp %v", host, got, udp.LocalAddr())
		}
		if host == "0.0.0.0" && !udp.LocalAddr().Addr().Is4() {
			t.Fatal("0.0.0.0 became", udp.LocalAddr())
		}
		closePair(t, udp, tcp)
	}
}

func TestListenPairTaken(t *testing.T) {
	taken, err := FreePort() // which no connection of another program gets while it is half free
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp, err := ListenPair("127.0.0.1", taken, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []interface{ Close() error }{tcp, udp} {
		if _, _, err := ListenPair("127.0.0.1", taken, false); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal("without fallback:", err)
		}
		u, l, err := ListenPair("127.0.0.1", taken, true)
		if err != nil {
			t.Fatal(err)
		}
		if u.LocalAddr().Port() == taken {
			t.Fatal("took a taken number")
		}
		closePair(t, u, l)
		if err := half.Close(); err != nil { // the second round finds the number half taken
			t.Fatal(err)
		}
	}
	u, l, err := ListenPair("127.0.0.1", taken, true)
	if err != nil {
		t.Fatal(err)
	}
	if u.LocalAddr() != netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), taken) {
		t.Fatal("did not take the free number:", u.LocalAddr())
	}
	closePair(t, u, l)
}

func TestListenPairHost(t *testing.T) {
	if _, _, err := ListenPair("example.org", 0, true); !errors.Is(err, ErrHost) {
		t.Fatal(err)
	}
}

func closePair(t *testing.T, udp *UDP, tcp *net.TCPListener) {
	t.Helper()
	if err := udp.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tcp.Close(); err != nil {
		t.Fatal(err)
	}
}
