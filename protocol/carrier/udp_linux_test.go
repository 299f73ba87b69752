package carrier

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// With IP_RECVERR the kernel reports every ICMP error on the socket, as other systems do unasked.
func TestRefusalDoesNotEndReading(t *testing.T) {
	eachBatcher(t, func(t *testing.T, listen func(string) *UDP) {
		u, gone := listen("127.0.0.1:0"), listen("127.0.0.1:0")
		raw, err := u.Socket().SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		got := make(chan []Message)
		go func() { got <- receive(t, u, 1) }()
		if _, err := u.WriteBatch(datagrams(gone.LocalAddr(), "anybody?")); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return u.Stats()["read error"] > 0 })
		peer := listen("127.0.0.1:0")
		if _, err := peer.WriteBatch(datagrams(u.LocalAddr(), "me")); err != nil {
			t.Fatal(err)
		}
		if from := (<-got)[0].Addr; from != peer.LocalAddr() {
			t.Fatal("from", from)
		}
	})
}

func FuzzSockaddr(f *testing.F) {
	var s sockaddr
	for _, text := range []string{"192.0.2.1:7700", "[2001:db8::1]:1", "[fe80::1%3]:65535", "[::ffff:192.0.2.1]:9"} {
		for _, family := range []uint16{unix.AF_INET, unix.AF_INET6} {
			n, _ := s.encode(family, netip.MustParseAddrPort(text))
			f.Add(s[:], n)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, length uint32) {
		var s, again sockaddr
		copy(s[:], raw)
		addr, ok := s.decode(length)
		if !ok {
			return
		}
		if addr.Addr().Is4In6() {
			t.Fatal("mapped address", addr)
		}
		n, ok := again.encode(unix.AF_INET6, addr)
		if back, decoded := again.decode(n); !ok || !decoded || back != addr {
			t.Fatalf("%v became %v", addr, back)
		}
	})
}

func TestSockaddrZones(t *testing.T) {
	var s sockaddr
	n, ok := s.encode(unix.AF_INET6, netip.MustParseAddrPort("[fe80::1%lo]:5"))
	if addr, decoded := s.decode(n); !ok || !decoded || addr.String() != "[fe80::1%1]:5" {
		t.Fatal(addr, ok)
	}
	if _, ok := s.encode(unix.AF_INET6, netip.MustParseAddrPort("[fe80::1%nosuch]:5")); ok {
		t.Fatal("an unknown zone was accepted")
	}
}
